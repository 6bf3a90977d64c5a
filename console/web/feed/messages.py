"""How the page is told: server-sent events whose data is JSON. Pure."""

import json
from typing import Final

from console.web.feed.board import Diff

ALIVE: Final = b"event: alive\ndata: {}\n\n"
"""Says that the server is there while nothing changes; a page that hears nothing for long shows that."""


def encode(event: str, diff: Diff, now: float) -> bytes:
    """Returns an event.

    Args:
        event: snapshot or change.
        diff: Its data.
        now: Unix seconds by Redis' clock, to which all times in the data refer.
    """
    return f"event: {event}\ndata: {to_json({'at': round(now, 2), **diff})}\n\n".encode()


def to_json(value: object) -> str:
    """Returns JSON in ASCII, so that lone surrogates, which stand for bytes that aren't UTF-8, survive."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
