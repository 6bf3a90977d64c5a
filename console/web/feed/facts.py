"""What Redis and the sidecars say about one stream, as values. Pure.

Both may say anything: a hash may lack fields or hold text that is no number, a name may be any bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HASH_FIELDS = (
    "heard_at", "counted_at", "hand_count", "source_fps", "counted_fps", "age", "last_skip",
    "received", "admitted", "counted", "skipped", "dead",
)  # fmt: skip
"""What is read of a stream's hash for every stream; the rest of it only for the camera that somebody looks at."""


CAMERA_FIELDS = ("state", "error", "source_fps", "since")
"""What is read of a camera's hash, likewise."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the workers say about a stream: its hash in Redis."""

    heard_at: float = 0.0
    """When Redis received its newest frame, Unix seconds by Redis' clock; likewise counted_at."""
    counted_at: float = 0.0
    hands: int | None = None
    """In the last result; None before the first one."""
    source_fps: float = 0.0
    """Frames that the workers receive, per second."""
    counted_fps: float = 0.0
    age: float = 0.0
    """Of the last counted frame when counting began, seconds."""
    last_skip: str = ""
    received: int = 0
    admitted: int = 0
    counted: int = 0
    skipped: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class CameraSaid:
    """What a publisher says about its camera."""

    state: str = ""
    """starting, working, lost, ended or stopped; empty: no publisher says anything."""
    error: str = ""
    """Why it was lost last; it may work again."""
    source_fps: float = 0.0
    since: float = 0.0
    """When the state began, Unix seconds by the publisher's clock."""


@dataclass(frozen=True, slots=True)
class Paced:
    """What the sidecars say about a stream; with several of them, all of it together."""

    fps: float | None
    """The limit in force; infinity: none; None: unknown."""
    source: str
    """override, pattern, wildcard, default; empty if this console doesn't know the word."""
    invalid: str = ""
    """The value in Redis that is ignored because it isn't a valid fps."""
    stale: bool = False
    unread: bool = False
    admitted: int = 0
    denied: int = 0
    admitted_fps: float = 0.0
    source_fps: float = 0.0
    """Of the camera itself, told by a publisher that thins; 0: not told."""
    last_reason: str = ""

    def merged(self, other: "Paced") -> "Paced":
        """Returns this together with what another sidecar says. The limit is this one's."""
        return Paced(
            fps=self.fps,
            source=self.source,
            invalid=self.invalid or other.invalid,
            stale=self.stale or other.stale,
            unread=self.unread and other.unread,
            admitted=self.admitted + other.admitted,
            denied=self.denied + other.denied,
            admitted_fps=self.admitted_fps + other.admitted_fps,
            source_fps=max(self.source_fps, other.source_fps),
            last_reason=self.last_reason or other.last_reason,
        )


def decode_name(raw: bytes) -> str:
    """Returns a name as text; bytes that aren't UTF-8 become lone surrogates, of which :func:`encode_name` makes them again."""
    return raw.decode(errors="surrogateescape")


def encode_name(name: str) -> bytes:
    """Returns the bytes of a name that came from :func:`decode_name`, or of text that people typed.

    Raises:
        ValueError: The text holds a surrogate that stands for no byte.
    """
    return name.encode(errors="surrogateescape")


def counted_from(values: Sequence[bytes | None]) -> Counted | None:
    """Returns what a stream's hash says, given the values of HASH_FIELDS in their order; None if there is no hash."""
    if all(value is None for value in values):
        return None
    texts = dict(zip(HASH_FIELDS, (value or b"" for value in values), strict=True))
    return Counted(
        heard_at=_number(texts["heard_at"]),
        counted_at=_number(texts["counted_at"]),
        hands=_integer(texts["hand_count"]) if texts["hand_count"] else None,
        source_fps=_number(texts["source_fps"]),
        counted_fps=_number(texts["counted_fps"]),
        age=_number(texts["age"]),
        last_skip=texts["last_skip"].decode("ascii", "replace")[:40],
        received=_integer(texts["received"]),
        admitted=_integer(texts["admitted"]),
        counted=_integer(texts["counted"]),
        skipped=_integer(texts["skipped"]),
        dead=_integer(texts["dead"]),
    )


def camera_from(values: Sequence[bytes | None]) -> CameraSaid | None:
    """Returns what a camera's hash says, given the values of CAMERA_FIELDS in their order; None if there is no hash."""
    state, error, source_fps, since = (value or b"" for value in values)
    if not state:
        return None
    words = state.decode("ascii", "replace")[:20], error.decode(errors="replace")[:200]
    return CameraSaid(*words, _number(source_fps), _number(since))


def numbers_from(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    """Returns a hash of counters, such as the accounting, without fields that are none."""
    return {decode_name(name): int(value) for name, value in fields.items() if value.isdigit()}


def _number(text: bytes) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number >= 0.0 else 0.0


def _integer(text: bytes) -> int:
    return int(_number(text))
