import threading
from dataclasses import dataclass, field

from worker.publish.camera_set import SHOWN_S, CameraSet
from worker.publish.camera_status import CameraState, CameraStatus
from worker.publish.options import CameraOptions, SourceOptions


class FakePublisher:
    """What is asked of a camera's publisher."""

    def __init__(self) -> None:
        self.done = threading.Event()


@dataclass
class FakeCamera:
    """A camera whose end is up to the test."""

    options: CameraOptions
    started: bool = False
    stopping: bool = False
    ended: bool = False
    error: Exception | None = None
    publisher: FakePublisher = field(default_factory=FakePublisher)

    @property
    def name(self) -> str:
        return self.options.stream_name

    def start(self) -> None:
        self.started = True

    def request_stop(self) -> None:
        self.stopping = True

    def join(self, _: float) -> bool:
        return self.ended

    def status(self) -> CameraStatus:
        state = CameraState.STOPPED if self.stopping else CameraState.WORKING
        return CameraStatus(state=state, since=0.0, source=self.options.source.source)


class World:
    """A set of fake cameras with a simulated clock."""

    def __init__(self) -> None:
        self.made: list[FakeCamera] = []
        self.now = 0.0
        self.set = CameraSet(self.make, lambda: self.now)

    def make(self, options: CameraOptions) -> FakeCamera:
        self.made.append(FakeCamera(options))
        return self.made[-1]

    def states(self) -> dict[str, tuple[str, str]]:
        """Returns the source and the state of each camera."""
        return {name: (status.source, status.state.value) for name, status in self.set.statuses().items()}


def camera(name: str, source: str = "0", **labels: str) -> CameraOptions:
    """Returns a camera."""
    return CameraOptions(stream_name=name, source=SourceOptions(source=source), labels=labels)


def test_only_what_differs_is_touched() -> None:
    """Cameras are added, changed and removed; the others go on."""
    world = World()
    change = world.set.apply([camera("a"), camera("b"), camera("c")])
    assert (change.added, change.removed, change.changed) == (["a", "b", "c"], [], [])
    a, b, c = world.made
    assert all(each.started for each in world.made)
    change = world.set.apply([camera("d"), camera("a"), camera("b", "1")])
    assert (change.added, change.removed, change.changed) == (["d"], ["c"], ["b"])
    assert (a.stopping, b.stopping, c.stopping) == (False, True, True)
    assert [each.name for each in world.made] == ["a", "b", "c", "d"]
    assert not world.set.apply([camera("d"), camera("a"), camera("b", "1")])
    assert len(world.set) == 3


def test_a_changed_camera_starts_when_the_one_before_has_ended() -> None:
    """However long that takes; two would be two clocks under one name."""
    world = World()
    world.set.apply([camera("a")])
    world.set.apply([camera("a", "1")])
    world.set.apply([camera("a", "2")])
    world.set.tend()
    assert len(world.made) == 1
    assert world.states() == {"a": ("0", "stopped")}
    world.made[0].ended = True
    world.set.tend()
    assert world.states() == {"a": ("2", "working")}
    assert len(world.made) == 2


def test_a_camera_that_is_removed_and_added_again() -> None:
    """Waits for its predecessor too."""
    world = World()
    world.set.apply([camera("a")])
    world.set.apply([])
    world.set.apply([camera("a")])
    assert len(world.made) == 1
    world.made[0].ended = True
    world.set.tend()
    assert len(world.made) == 2
    assert world.states() == {"a": ("0", "working")}


def test_a_removed_camera_is_shown_as_stopped_for_a_moment() -> None:
    """So that its last state is written."""
    world = World()
    world.set.apply([camera("a")])
    world.set.apply([])
    world.made[0].ended = True
    world.set.tend()
    assert world.states() == {"a": ("0", "stopped")}
    world.now = SHOWN_S
    world.set.tend()
    assert world.states() == {}


def test_other_labels_touch_no_camera() -> None:
    """They are only told."""
    world = World()
    world.set.apply([camera("a", floor="1")])
    assert world.set.apply([camera("a", floor="2")]).changed == ["a"]
    (only,) = world.made
    assert (only.stopping, only.options.labels) == (False, {"floor": "2"})
    assert not world.set.apply([camera("a", floor="2")])


def test_a_camera_that_failed_for_good_is_made_anew() -> None:
    """The end of a film is none of that."""
    world = World()
    world.set.apply([camera("a"), camera("film")])
    for each in world.made:
        each.publisher.done.set()
        each.ended = True
    world.made[0].error = ValueError("ts must not be negative")
    world.set.tend()
    assert [each.name for each in world.made] == ["a", "film", "a"]


def test_a_stop_asks_all_before_it_waits() -> None:
    """And says whether every thread has ended, those of removed cameras included."""
    world = World()
    world.set.apply([camera("a"), camera("b"), camera("c")])
    world.set.apply([camera("a"), camera("b", "1")])
    world.set.request_stop()
    assert all(each.stopping for each in world.made)
    assert not world.set.join(0.0)
    for each in world.made:
        each.ended = True
    assert world.set.join(0.0)
    assert len(world.made) == 3
