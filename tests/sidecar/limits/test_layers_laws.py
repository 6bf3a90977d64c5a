"""Patterns and boosts in the fps table: laws over any order of changes."""

import math
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.models.table_world import World, encoded

from handcounter.pacing.limits import Limit, fallback, limit_in_force, parse_boost, parse_fps
from handcounter.pacing.patterns import Patterns

NAMES = ("a1", "a2", "b1")


VALUES = (None, "0", "1", "2", "inf", "x")


def drawn_fields(choose: Random, names: Sequence[str], values: Sequence[str | None]) -> dict[str, str | None]:
    """Draws some of the fields of a hash."""
    return {name: choose.choice(values) for name in choose.sample(names, choose.randint(0, 3))}


def drawn_change(choose: Random) -> tuple[str, str | None, object]:
    """Draws one change: what, of which stream, and the value."""
    match choose.randrange(7):
        case 0:
            return "field", choose.choice(NAMES), choose.choice(VALUES)
        case 1:
            return "wildcard", None, choose.choice(VALUES)
        case 2:
            return "patterns", None, drawn_fields(choose, ["a*", "*1", "?1", "*"], VALUES)
        case 3:
            return "boosts", None, drawn_fields(choose, NAMES, ["0 1005", "9 1010", "7 990", "x"])
        case 4:
            return "pass", None, choose.choice([0.0, 5.0, choose.uniform(0.0, 8.0)])
        case 5:
            return "sleep", choose.choice(NAMES), None
    return "forget", choose.choice(NAMES), None


class Model:
    """The rule applied anew to everything that was stored, which keeps the last valid value of each field."""

    def __init__(self) -> None:
        self.fields: dict[str, float] = {}
        self.wildcard: float | None = None
        self.patterns: dict[str, float] = {}
        self.boosts: dict[str, object] = {}

    def limit(self, name: str, now: float) -> Limit:
        match = Patterns(self.patterns).match(name)
        pattern = None if match is None else match.fps
        otherwise = fallback(self.wildcard, 1.0)
        return limit_in_force(self.fields.get(name), pattern, otherwise, self.boosts.get(name), now)  # type: ignore[arg-type]


def stored(before: dict[str, object], fields: dict[str, str], parse: Callable[[bytes], object]) -> dict[str, object]:
    after = {}
    for name, value in fields.items():
        parsed = parse(value.encode())
        if parsed is None:
            parsed = before.get(name)
        if parsed is not None:
            after[name] = parsed
    return after


@settings(max_examples=200)
@given(st.integers(0, 30), st.integers(0, 2**64 - 1))
def test_the_table_follows_the_rule(count: int, seed: int) -> None:
    """Law: after any changes the limit in force is what the rule says of all fields, and leases were told each change of it."""
    world, model = World(), Model()
    world.table.store(NAMES, [None] * len(NAMES))
    told = dict.fromkeys(NAMES, 1.0)
    choose = Random(seed)
    for _ in range(count):
        what, name, value = drawn_change(choose)
        watched = {name: world.table.fps(name) for name in NAMES if name in world.table.watched}
        world.forget_reports()
        match what:
            case "field":
                assert name is not None
                raw = None if value is None else str(value).encode()
                world.table.store([name], [raw])
                old = {name: model.fields[name]} if name in model.fields else {}
                new = stored(old, {} if value is None else {name: str(value)}, parse_fps)
                model.fields = {key: fps for key, fps in model.fields.items() if key != name} | new  # type: ignore[assignment]
            case "wildcard":
                world.table.store_wildcard(None if value is None else str(value).encode())
                new = stored({"*": model.wildcard}, {} if value is None else {"*": str(value)}, parse_fps)
                model.wildcard = new.get("*")  # type: ignore[assignment]
            case "patterns":
                fields = {key: fps for key, fps in value.items() if fps is not None}  # type: ignore[attr-defined]
                if world.table.store_patterns(encoded(fields)):
                    world.table.refresh(NAMES)
                model.patterns = stored(model.patterns, fields, parse_fps)  # type: ignore[assignment, arg-type]
            case "boosts":
                world.table.store_boosts(encoded(value))  # type: ignore[arg-type]
                model.boosts = stored(model.boosts, value, parse_boost)  # type: ignore[arg-type]
            case "pass":
                world.now += value  # type: ignore[operator]
                world.table.end_boosts()
            case "sleep":
                if name in world.table.watched:
                    world.table.put_to_sleep(name)  # type: ignore[arg-type]
            case "forget":
                world.table.forget(name)  # type: ignore[arg-type]
                model.fields.pop(name, None)  # type: ignore[arg-type]
        for each in NAMES:
            assert world.table.limit(each) == model.limit(each, world.now)
            assert world.table.fps(each) == world.table.limit(each).fps == world.table.limit_in_force(each).fps
        told = dict(watched)
        for changed, old_fps, new_fps in world.changes:
            if changed == "*":
                continue
            told[changed] = new_fps
            assert old_fps >= 0.0
        for each in watched.keys() & world.table.watched.keys():
            is_told = each in told and told[each] == world.table.fps(each)
            by_fallback = any(changed == "*" and new == world.table.fps(each) for changed, _, new in world.changes)
            assert is_told or by_fallback, f"{each} changed, and leases weren't told"
        if world.table.next_boost_end() is not None:
            assert world.table.next_boost_end() > world.now  # type: ignore[operator]
        assert math.isfinite(world.now)
