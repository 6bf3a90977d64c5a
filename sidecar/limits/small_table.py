"""What was last read from a small hash that is always read whole: of patterns, or of boosts. Pure.

As in the hash of limits, the last valid value of a field stays in force while its new one isn't valid. A field is *refused* if
its name isn't valid, or if there are too many. Which ones are too many depends on their names alone, so that all sidecars
refuse the same.
"""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from handcounter.pacing.limits import show

Value = TypeVar("Value")


class SmallTable(Generic[Value]):
    """The fields of a small hash.

    Args:
        parse: returns what a value stands for; None if it isn't valid.
        name_error: returns the error for a field's name that isn't valid, else None.
        most: how many fields may be in force; those after them in text order are refused.
    """

    def __init__(
        self,
        parse: Callable[[bytes], Value | None],
        name_error: Callable[[str], str | None],
        most: int,
    ) -> None:
        self.values: Mapping[str, Value] = {}
        """The fields in force. Replaced, not changed, at each reading: other threads read it."""
        self.invalid: Mapping[str, str] = {}
        """The values that are ignored because they aren't valid, as shown to people. Their last valid ones are in force."""
        self.refused: Mapping[str, str] = {}
        """The fields that are ignored whatever their value is, each with the reason."""
        self._parse = parse
        self._name_error = name_error
        self._most = most

    def store(self, fields: Mapping[bytes, bytes]) -> set[str]:
        """Stores all fields of the hash; returns those that differ from before: in force, invalid or refused."""
        values: dict[str, Value] = {}
        invalid: dict[str, str] = {}
        refused: dict[str, str] = {}
        for field, raw in sorted(fields.items()):
            name, error = self._read_name(field)
            if error is None and len(values) >= self._most:
                error = f"at most {self._most} are in force"
            if error is not None:
                refused[name] = error
                continue
            value = self._parse(raw)
            if value is None:
                invalid[name] = show(raw)
                value = self.values.get(name)
            if value is not None:
                values[name] = value
        changed = {
            *_differences(self.values, values),
            *_differences(self.invalid, invalid),
            *_differences(self.refused, refused),
        }
        self.values, self.invalid, self.refused = values, invalid, refused
        return changed

    def _read_name(self, field: bytes) -> tuple[str, str | None]:
        """Returns a field's name, for people if it isn't valid, and why it isn't."""
        try:
            name = field.decode()
        except UnicodeDecodeError:
            return show(field), "a name must be UTF-8"
        error = self._name_error(name)
        return (show(field), error) if error else (name, None)


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
