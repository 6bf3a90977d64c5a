"""What the values of the hash of limits mean, and which of them aren't valid. Pure."""

from collections.abc import Callable

from handcounter.pacing.limits import parse_fps, show

_CACHED_VALUES = 10_000
"""Distinct values whose meaning is remembered. There are few, so that streams with the same value share one float."""

_REPORTED_VALUES = 10_000
"""Distinct invalid values remembered as reported."""


class FieldValues:
    """The meaning of values, and the invalid value of each field that has one.

    Args:
        on_invalid: Is called once for each distinct invalid value, with the field and the value as shown to people.
        on_difference: Is called with each field whose invalid value changed.
    """

    def __init__(self, on_invalid: Callable[[str, str], None], on_difference: Callable[[str], None] | None) -> None:
        self.meanings: dict[bytes, float] = {}
        """The fps of valid values, frames per second. Others read it."""
        self.invalid: dict[str, str] = {}
        """The values that are ignored, by field, as shown to people. Others read it."""
        self._on_invalid = on_invalid
        self._on_difference = on_difference
        self._reported: set[bytes] = set()

    def meaning(self, field: str, raw: bytes) -> float | None:
        """Returns the fps that a value of a field means; None if it isn't valid, which is remembered and reported."""
        fps = parse_fps(raw)
        if fps is not None:
            if len(self.meanings) >= _CACHED_VALUES:
                self.meanings.clear()
            self.record_invalid(field, "")
            return self.meanings.setdefault(raw, fps)
        shown = show(raw)
        self.record_invalid(field, shown)
        if raw not in self._reported:
            if len(self._reported) >= _REPORTED_VALUES:
                self._reported.clear()
            self._reported.add(raw)
            self._on_invalid(field, shown)
        return None

    def record_invalid(self, field: str, value: str) -> None:
        """Records the value of a field that is ignored; empty if its value is valid, or there is none."""
        if self.invalid.get(field, "") == value:
            return
        if value:
            self.invalid[field] = value
        else:
            del self.invalid[field]
        if self._on_difference is not None:
            self._on_difference(field)

    def forget(self, field: str) -> None:
        """Forgets the invalid value of a field, if it has one."""
        self.invalid.pop(field, None)
