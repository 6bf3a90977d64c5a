"""Parses the values of --sink and builds the sinks. Values may hold secrets, so errors don't repeat them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from worker.sinks.feed import Feed
from worker.sinks.feeds import Feeds
from worker.sinks.jsonl import KEPT, MOST_BYTES, JsonlFile, JsonlOutput
from worker.sinks.sink import Sink

REDIS = "redis"
KINDS = (REDIS, "jsonl", "http", "mqtt", "sql")

_SCHEMES = {"http": ("http", "https"), "mqtt": ("mqtt", "mqtts")}
"""Of the kinds that are at a URL."""

_KIND_OF_SCHEME = {scheme: kind for kind, schemes in _SCHEMES.items() for scheme in schemes}
_LEAST_BYTES = 1000


@dataclass(frozen=True)
class SinkSpec:
    """A parsed value of --sink."""

    kind: str
    rest: str = field(default="", repr=False)
    """Its path or URL, with secrets."""


def parse_sink(text: str) -> SinkSpec:
    """Returns what a value of --sink means.

    Raises:
        ValueError: it isn't valid; the message says what was expected, and doesn't repeat the text.
    """
    kind, _, rest = text.partition(":")
    if rest.startswith("//") and kind in _KIND_OF_SCHEME:  # the URL alone says what it is
        kind, rest = _KIND_OF_SCHEME[kind], text
    if kind == REDIS and not rest:
        return SinkSpec(REDIS)
    if kind == "jsonl" and rest:
        if rest != "-":
            _jsonl_limits(rest)
        return SinkSpec(kind, rest)
    if kind in _SCHEMES and rest:
        _check_url(kind, rest)
        return SinkSpec(kind, rest)
    if kind == "sql" and rest:
        return SinkSpec(kind, rest)
    raise ValueError("expected redis, jsonl:PATH, jsonl:-, http:URL, mqtt:URL or sql:URL")


def open_feeds(specs: Sequence[SinkSpec], *, hmac_key: bytes, worker: str, queue: str) -> Feeds:
    """Builds the sinks besides Redis, without connecting to any.

    Args:
        specs: what to build.
        hmac_key: signs what is sent by HTTP; empty: nothing is signed.
        worker: this worker's name.
        queue: the name of the queue.

    Returns:
        A feed for each; they aren't started yet.

    Raises:
        ValueError: a URL isn't valid.
        ModuleNotFoundError: a package of an extra is missing.
    """
    feeds: list[Feed] = []
    seen: Counter[str] = Counter()
    for spec in specs:
        if spec.kind != REDIS:
            seen[spec.kind] += 1
            number = seen[spec.kind]
            name = spec.kind if number == 1 else f"{spec.kind}-{number}"
            feeds.append(Feed(name, _open(spec, hmac_key, worker, queue)))
    return Feeds(feeds)


def _open(spec: SinkSpec, hmac_key: bytes, worker: str, queue: str) -> Sink:
    if spec.kind == "jsonl":
        if spec.rest == "-":
            return JsonlOutput()
        return JsonlFile(*_jsonl_limits(spec.rest))
    if spec.kind == "http":
        from worker.sinks.http import HttpSink

        return HttpSink(spec.rest, hmac_key)
    if spec.kind == "mqtt":
        from worker.sinks.mqtt import MqttSink

        return MqttSink(spec.rest, worker)
    import sqlalchemy as sa

    from worker.sinks.sql import DIALECTS, SqlSink

    try:
        url = sa.make_url(spec.rest)
        dialect = url.get_backend_name()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError):
        raise ValueError("sql: expected a URL such as sqlite:///results.db or postgresql://USER@HOST/DB") from None
    if dialect not in DIALECTS:
        raise ValueError(f"sql: expected sqlite or postgresql, got {dialect}")
    if dialect == "postgresql" and url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return SqlSink(url, queue)


def _jsonl_limits(rest: str) -> tuple[Path, int, int]:
    """Splits PATH?max_bytes=N&keep=N."""
    path, _, query = rest.partition("?")
    given = dict(parse_qsl(query))
    try:
        most_bytes, kept = int(given.pop("max_bytes", MOST_BYTES)), int(given.pop("keep", KEPT))
    except ValueError:
        raise ValueError("jsonl: max_bytes and keep must be whole numbers") from None
    if given or not path or most_bytes < _LEAST_BYTES or not 0 <= kept <= 1000:
        raise ValueError(f"jsonl: expected PATH?max_bytes=N&keep=N, with at least {_LEAST_BYTES} bytes")
    return Path(path), most_bytes, kept


def _check_url(kind: str, url: str) -> None:
    schemes = _SCHEMES[kind]
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        expected = " or ".join(f"{scheme}://HOST" for scheme in schemes)
        raise ValueError(f"{kind}: expected {expected}; escape / # ? @ in the user and the password")
