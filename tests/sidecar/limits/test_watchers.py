"""Who has yet to be told which limits."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handcounter.pacing.limits import Limit
from sidecar.limits.table import FpsTable
from sidecar.limits.watchers import Watcher, Watchers

NAMES = ("a", "b", "c", "*")


class Told:
    """A watcher's client: what it was told."""

    def __init__(self, watchers: Watchers, table: FpsTable) -> None:
        self.woken = 0
        self.watcher: Watcher = watchers.open(self._wake)
        self.limits: dict[str, tuple[Limit, str]] = {}
        self._watchers = watchers
        self._table = table

    def _wake(self) -> None:
        self.woken += 1

    def watch(self, *names: str, source_fps: float = 0.0) -> list[str]:
        """Watches streams whose limits are known."""
        new = self._watchers.watch(self.watcher, names, [source_fps] * len(names))
        self._table.assume(new)
        self.watcher.mark_new(new)
        return new

    def read(self, most: int = 100) -> list[str] | None:
        """Reads a message; returns the streams that it tells of."""
        names = self.watcher.take(most, self._table.watched)
        for name in names or ():
            self.limits[name] = self._table.limit(name), self._table.invalid_value(name)
        return names


class World:
    """A table, and its watchers."""

    def __init__(self) -> None:
        self.watchers = Watchers()
        self.table = FpsTable(
            1.0,
            lambda _field, _value: None,
            on_difference=self.watchers.record,
            clock=lambda: 0.0,
            wall_clock=lambda: 0.0,
        )

    def client(self) -> Told:
        """Returns a new watcher's client."""
        return Told(self.watchers, self.table)

    def set(self, field: str, value: bytes | None) -> None:
        """Has the effect of a change in Redis."""
        if field == "*":
            self.table.store_wildcard(value)
        if field in self.table.watched:
            self.table.store([field], [value])


@pytest.fixture
def world() -> World:
    """A table at the default of 1 fps."""
    return World()


def test_first_all_then_what_changed(world: World) -> None:
    """Streams are pending when they are new, and then when their own limit changes."""
    client = world.client()
    client.watch("a", "b")
    assert client.read() == ["a", "b"]
    assert client.read() is None
    world.set("b", b"5")
    assert client.read() == ["b"]
    assert client.limits["b"] == (world.table.limit("b"), "")
    world.set("b", b"5")  # the same again
    assert client.read() is None


def test_nothing_is_pending_for_others(world: World) -> None:
    """A change reaches those who watch the stream, and nobody else."""
    one, other = world.client(), world.client()
    one.watch("a")
    other.watch("b")
    one.read(), other.read()
    world.set("a", b"3")
    assert one.read() == ["a"]
    assert other.read() is None


def test_changes_that_are_not_read_merge(world: World) -> None:
    """A client that reads late is told the newest limit once."""
    client = world.client()
    client.watch("a", "b")
    client.read()
    for fps in range(1000):
        world.set("a", str(fps).encode())
    assert client.read() == ["a"]
    assert client.limits["a"][0].fps == 999.0
    assert client.read() is None


def test_a_message_is_bounded(world: World) -> None:
    """What doesn't fit into a message is in the next one, the oldest first."""
    client = world.client()
    client.watch(*(f"cam{number}" for number in range(5)))
    assert client.read(2) == ["cam0", "cam1"]
    world.set("cam0", b"7")
    assert client.read(2) == ["cam2", "cam3"]
    assert client.read(2) == ["cam4", "cam0"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda world: world.set("*", b"9"), ["b", "c"], id="another wildcard"),
        pytest.param(lambda world: world.set("*", b"nine"), ["b", "c"], id="an invalid wildcard"),
        pytest.param(lambda world: world.set("a", b"nine"), ["a"], id="an invalid value"),
        pytest.param(lambda world: world.set("a", None), ["a"], id="no field any more"),
        pytest.param(lambda world: world.set("b", b"1"), ["b"], id="another source of the same fps"),
        pytest.param(lambda world: world.watchers.record_for_all(), [], id="stale"),
    ],
)
def test_what_is_told(world: World, change: Callable[[World], None], told: list[str]) -> None:
    """Every change of what a message shows is told."""
    client = world.client()
    client.watch("a", "b", "c")
    world.set("a", b"5")
    client.read()
    change(world)
    assert client.read() == told
    assert client.read() is None


def test_an_invalid_value_that_becomes_valid_is_told(world: World) -> None:
    """The flag goes, even if the limit stays the same."""
    client = world.client()
    client.watch("a")
    world.set("a", b"5")
    world.set("a", b"x")
    client.read()
    assert client.limits["a"][1] == "x"
    world.set("a", b"5")
    assert client.read() == ["a"]
    assert client.limits["a"][1] == ""


def test_nothing_is_told_of_a_stream_before_its_limit_is_read(world: World) -> None:
    """Else the first message could have the fallback of a stream with an override."""
    client = world.client()
    client.watch("a")
    client.read()
    new = world.watchers.watch(client.watcher, ["b", "c"], [0.0, 0.0])
    world.table.store(["b"], [b"x"])
    world.set("*", b"9")
    assert client.read() == ["a"]
    world.watchers.unwatch(client.watcher, ["c"])
    client.watcher.mark_new(new)
    assert client.read() == ["b"]


def test_a_request_without_streams_is_followed_by_a_message(world: World) -> None:
    """So that a client learns what applies to all streams."""
    client = world.client()
    client.watch()
    assert client.read() == []


def test_streams_are_watched_as_long_as_anybody_watches_them(world: World) -> None:
    """The last one's end is what counts; ends are counted once."""
    one, other = world.client(), world.client()
    one.watch("a", "b")
    other.watch("a")
    assert (world.watchers.watches, world.watchers.streams, len(world.watchers)) == (3, 2, 2)
    world.watchers.unwatch(one.watcher, ["a", "b", "c"])
    assert one.read() == []  # what was pending isn't told any more
    assert "a" in world.watchers
    assert "b" not in world.watchers
    world.watchers.close(other.watcher)
    world.watchers.close(other.watcher)
    assert "a" not in world.watchers
    assert (world.watchers.watches, world.watchers.streams, len(world.watchers)) == (0, 0, 1)


def test_source_rates(world: World) -> None:
    """A rate holds from when it is told until its teller ends; telling it again is no new watch."""
    one, other = world.client(), world.client()
    assert one.watch("a", source_fps=25.0) == ["a"]
    other.watch("a")
    assert world.watchers.source_fps("a") == 25.0
    assert one.watch("a", source_fps=12.5) == []
    assert world.watchers.source_fps("a") == 12.5
    world.watchers.close(one.watcher)
    assert world.watchers.source_fps("a") == 0.0
    assert world.watchers.source_fps("b") == 0.0


def test_another_rate_is_passed_on_once(world: World) -> None:
    """The highest that anybody tells; also when its teller ends."""
    passed_on: list[tuple[str, float]] = []
    world.watchers.on_source_fps = lambda name: passed_on.append((name, world.watchers.source_fps(name)))
    one, other = world.client(), world.client()
    one.watch("a", source_fps=25.0)
    one.watch("a", source_fps=25.0)
    other.watch("a", source_fps=12.5)
    one.watch("b")
    assert passed_on == [("a", 25.0)]
    world.watchers.close(one.watcher)
    world.watchers.unwatch(other.watcher, ["a"])
    assert passed_on == [("a", 25.0), ("a", 12.5), ("a", 0.0)]


def drawn_step(choose: random.Random) -> tuple[str, str | int, object]:
    """Draws what happens next."""
    match choose.choice(["set", "watch", "unwatch", "read"]):
        case "set":
            return "set", choose.choice(NAMES), choose.choice([b"1", b"2", b"0", b"x", b"y", None])
        case "read":
            return "read", choose.randint(1, 3), choose.choice([0, 1])
        case step:
            return step, choose.choice(NAMES), choose.choice([0, 1])


@given(st.integers(0, 50), st.integers(0, 2**64 - 1))
def test_what_was_told_is_what_is_in_force(count: int, seed: int) -> None:
    """Law: whoever has read all messages knows the limit of each stream that it watches, whatever happened before."""
    world = World()
    clients = [world.client(), world.client()]
    choose = random.Random(seed)
    for _ in range(count):
        step, what, which = drawn_step(choose)
        if step == "set":
            world.set(str(what), which)  # type: ignore[arg-type]
        elif step == "read":
            clients[which].read(int(what))  # type: ignore[call-overload]
        else:
            client = clients[which]  # type: ignore[call-overload]
            if step == "watch":
                client.watch(str(what))
            else:
                world.watchers.unwatch(client.watcher, [str(what)])
    for client in clients:
        while client.read(2) is not None:
            pass
        for name in client.watcher.source_fps:
            assert client.limits[name] == (world.table.limit(name), world.table.invalid_value(name))
