"""How settled deliveries are written: the accounting's fields, the results and the dead letters. Pure."""

from collections.abc import Iterable

from worker.queue.delivery import Counted, Dead, Settled, Skipped
from worker.queue.frame import DeadReason, SkipReason
from worker.queue.keys import Keys

Entry = list[str | bytes]
"""An entry of a Redis stream as field, value, field, value, ..."""


def skipped_field(reason: SkipReason) -> str:
    """Returns the field of the accounting that counts the frames skipped for this reason."""
    return f"skipped:{reason}"


def settled_fields() -> list[str]:
    """Returns all fields of the accounting but received; each delivery that isn't pending is counted in one of them."""
    return ["counted", *map(skipped_field, SkipReason), *map(dead_field, DeadReason)]


def dead_field(reason: DeadReason) -> str:
    """Returns the field of the accounting that counts the entries dead-lettered for this reason."""
    return f"dead:{reason}"


def pictures(settled: Iterable[Settled], keys: Keys) -> list[bytes]:
    """Returns the keys of the pictures that are no longer needed once these deliveries are settled.

    A duplicate's may be needed: a client that repeats an XADD whose reply was lost adds a second entry with the same key, and
    the first one may still wait for its turn. If the key is the duplicate's own, it stays until its TTL.
    """
    named = [each.frame_key for each in settled if not _is_duplicate(each) and each.frame_key is not None]
    return [key for key in named if keys.is_payload(key)]


def _is_duplicate(settled: Settled) -> bool:
    return isinstance(settled, Skipped) and settled.reason is SkipReason.DUPLICATE


def encode(settled: Counted | Dead) -> tuple[str, Entry]:
    """Returns the field of the accounting that counts this delivery, and its result or dead letter."""
    if isinstance(settled, Counted):
        return "counted", ["stream_name", settled.stream_name, "ts", repr(settled.ts), "result", settled.result]
    letter: Entry = ["entry_id", settled.entry_id, "reason", settled.reason.value, "message", settled.message]
    for name, value in settled.fields:
        letter += [b"field:" + name, value]
    return dead_field(settled.reason), letter
