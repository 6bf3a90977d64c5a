"""Which limits were never read, so that what is known of them is only assumed. Pure."""

from collections.abc import Callable


class Unread:
    """The watched streams whose limits were never read.

    A stream with a field of its own has a known limit once that is read; one without a field only once the wildcard and the
    patterns are read as well.

    Args:
        on_read: Is called with each stream whose limit was unread and is known now.
    """

    def __init__(self, on_read: Callable[[str], None] | None) -> None:
        self.names: set[str] = set()
        """Others read it; it is never replaced."""
        self.complete = False
        """Whether the wildcard and the patterns are known."""
        self._on_read = on_read
        self._wildcard_read = False
        self._patterns_read = True
        self._undecided: set[str] = set()
        """Those that have no field, so that their limit is known once the rest is."""

    def record_wildcard(self) -> None:
        """Records that the wildcard was read."""
        self._wildcard_read = True
        self._complete()

    def await_patterns(self) -> None:
        """Records that there may be patterns that weren't read yet."""
        self._patterns_read = self.complete = False

    def record_patterns(self) -> None:
        """Records that the patterns were read, or can't be."""
        self._patterns_read = True
        self._complete()

    def record(self, stream_name: str, *, has_field: bool) -> None:
        """Records that a stream's field was read."""
        if not (has_field or self.complete):
            self.names.add(stream_name)
            self._undecided.add(stream_name)
        elif stream_name in self.names:
            self.names.discard(stream_name)
            if self._on_read is not None:
                self._on_read(stream_name)

    def forget(self, stream_name: str) -> None:
        """Forgets a stream that isn't watched any more."""
        self.names.discard(stream_name)
        self._undecided.discard(stream_name)

    def _complete(self) -> None:
        self.complete = self._wildcard_read and self._patterns_read
        if self.complete and self._undecided:
            undecided, self._undecided = self._undecided, set()
            for name in undecided:
                self.record(name, has_field=False)
