"""The hashes of patterns and boosts in Redis: which of them have to be read, and what can't be read of them.

A server that refuses to read one of them (an ACL that doesn't know the key yet, a key of another type) is followed all the
same: the fields of the streams are what counts most. Where nothing was read before, there are no patterns or boosts then.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from handcounter.pacing.limits import MAX_BOOSTS, MAX_PATTERNS, boosts_key, patterns_key
from sidecar.connections.errors import Problem, RejectedError
from sidecar.limits.hash import Call, FpsHash, NotAHashError
from sidecar.limits.small_table import SmallTable
from sidecar.limits.table import FpsTable

logger = logging.getLogger(__name__)

_LASTING: Final = frozenset({"NOPERM", "ERR"})
"""Errors that say that this user can't read the key; others may pass."""

_READ_FACTOR: Final = 10
"""Of so many times the fields that may be in force all are looked at. Which ones are in force is certain up to there."""

_REPORTED: Final = 10
"""Fields that one log line names; --check names all."""


class SmallHash(NamedTuple):
    """A hash that is read whole."""

    key: str
    store: Callable[[Mapping[bytes, bytes]], bool]
    """Stores its fields; returns whether the watched streams have to be refreshed after that."""
    assume: Callable[[], None]
    """Is called if it can't be read."""
    fields: SmallTable[Any]
    """What was last stored."""
    most: int
    """How many of its fields may be in force."""


def patterns_hash(table: FpsTable, config_key: str) -> SmallHash:
    """Returns the hash of patterns, on which limits depend from now on."""
    table.await_patterns()
    return SmallHash(
        patterns_key(config_key), table.store_patterns, table.assume_patterns, table.layers.patterns, MAX_PATTERNS
    )


def boosts_hash(table: FpsTable, config_key: str) -> SmallHash:
    """Returns the hash of boosts."""
    return SmallHash(boosts_key(config_key), table.store_boosts, lambda: None, table.layers.boosts, MAX_BOOSTS)


class SmallHashes:
    """Some small hashes in one server.

    Args:
        hashes: The hashes.
        on_read: Is called at each command.
        alone: Whether nothing else is read from the server, so that it is left for the one that holds them, if that is another.
    """

    def __init__(
        self, hashes: Sequence[SmallHash] = (), on_read: Callable[[], None] = lambda: None, *, alone: bool = False
    ) -> None:
        self.problems: dict[str, tuple[Problem, str]] = {}
        """Why a hash can't be read, by its key: for metrics, and in one line for people."""
        self._hashes = tuple(hashes)
        self._on_read = on_read
        self._lasting = _LASTING if alone else _LASTING | {"MOVED"}
        self._outdated: set[str] = set()
        self._logged: dict[str, str] = {}

    def outdate(self, keys: Sequence[bytes] | None) -> bool:
        """Records that keys changed (None: all of them); returns whether any of the hashes is among them."""
        outdated = {small.key for small in self._hashes if keys is None or small.key.encode() in keys}
        self._outdated |= outdated
        return bool(outdated)

    async def read(self, call: Call) -> bool:
        """Reads the outdated hashes; returns whether the watched streams have to be refreshed now.

        Raises:
            RedisServerError: the server isn't worth keeping.
        """
        refresh = False
        for small in self._hashes:
            if small.key in self._outdated:
                self._outdated.discard(small.key)  # a push that comes now may be about what was passed over
                try:
                    fields = await FpsHash(call, small.key, self._on_read).read_all(_READ_FACTOR * small.most)
                except NotAHashError:
                    sentence = f"the key {small.key!r} isn't a hash (delete it or change --config-key)"
                    self._fail(small, Problem.WRONGTYPE, sentence)
                except RejectedError as error:
                    if error.code not in self._lasting:
                        raise
                    self._fail(small, error.problem, f"{small.key!r} can't be read: {error.sentence}")
                else:
                    self.problems.pop(small.key, None)
                    invalid, refused = small.fields.invalid, small.fields.refused
                    refresh = small.store(fields) or refresh
                    _report("ignoring values that aren't valid", small.key, invalid, small.fields.invalid)
                    _report("refusing fields", small.key, refused, small.fields.refused)
        return refresh

    def report(self) -> None:
        """Logs the problems that weren't logged yet. A server that can't be read at all has a line of its own instead."""
        for key, (_, sentence) in self.problems.items():
            if self._logged.get(key) != sentence:
                logger.warning("patterns or boosts can't be read; those last known apply", extra={"problem": sentence})
        self._logged = {key: sentence for key, (_, sentence) in self.problems.items()}

    def _fail(self, small: SmallHash, problem: Problem, sentence: str) -> None:
        self.problems[small.key] = problem, sentence
        small.assume()


def _report(message: str, key: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Logs in one line which fields are ignored that weren't before, or for another reason."""
    new = {field: reason for field, reason in after.items() if before.get(field) != reason}
    if new:
        shown = dict(list(new.items())[:_REPORTED])
        logger.warning(message, extra={"key": key, "count": len(new), "fields": shown})
