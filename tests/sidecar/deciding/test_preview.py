"""Dry runs: the answers of a decision, without its effects."""

import copy
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.coroutines import run
from support.models.sidecar_world import World

from handcounter.pacing.schedule import ANY_TIME, Reason
from sidecar.deciding.decider import Answers, Batch


def drawn_frames(count: int, seed: int) -> list[tuple[str, float]]:
    """Draws frames, some of them with the same ts."""
    choose = random.Random(seed)
    return [
        (choose.choice(["a", "b", "paused"]), choose.choice([choose.uniform(0, 10), float(choose.randint(0, 10))]))
        for _ in range(count)
    ]


FRAMES = st.builds(drawn_frames, st.integers(1, 8), st.integers(0, 2**64 - 1))


def batch(frames: list[tuple[str, float]]) -> Batch:
    return Batch([name for name, _ in frames], [ts for _, ts in frames])  # type: ignore[misc]


@given(before=FRAMES, frames=FRAMES)
def test_a_dry_run_says_what_then_happens(before: list[tuple[str, float]], frames: list[tuple[str, float]]) -> None:
    """Asking first, any number of times, gives the answers that the decision then gives, and doesn't change them."""
    world = World(default=1.0)
    world.redis["paused"] = b"0"
    run(world.limiter.decide(batch(before)))
    streams, decisions = set(world.roster.streams), copy.copy(world.roster.decisions)
    previews = [run(world.preview.decide(batch(frames))) for _ in range(2)]
    assert set(world.roster.streams) == streams
    assert world.roster.decisions == decisions
    assert previews == [run(world.limiter.decide(batch(frames)))] * 2


def test_a_dry_run_adds_no_stream() -> None:
    """A name that was only asked about has no schedule, and its first frame is admitted."""
    world = World(default=1.0)
    assert run(world.preview.decide(batch([("new", 5.0)]))).reasons == [Reason.ADMITTED]
    assert len(world.limiter) == 0
    assert world.ask("new", 5.0) is Reason.ADMITTED
    assert run(world.preview.decide(batch([("new", 5.0)]))).reasons == [Reason.DUPLICATE]


def test_a_dry_run_revokes_no_lease() -> None:
    """A client's leases stay."""
    world = World(default=1.0)
    revoked: list[str] = []

    class Holder:
        leased = ("a",)

        def revoke(self, stream_name: str) -> None:
            revoked.append(stream_name)

        def revoke_all(self) -> None:
            revoked.append("*")

    world.ask("a", 1.0)
    world.leases.open(Holder())
    assert run(world.preview.decide(batch([("a", 9.0)]))).reasons == [Reason.ADMITTED]
    assert revoked == []
    world.ask("a", 9.0)
    assert revoked == ["a"]


@pytest.mark.parametrize(("fps", "due"), [(b"0", math.inf), (b"inf", math.nextafter(1.0, 2.0))])
def test_the_limit_in_redis_is_used(fps: bytes, due: float) -> None:
    """The limit is read as for a decision."""
    world = World(default=1.0)
    world.redis["a"] = fps
    answers = run(world.preview.decide(batch([("a", 1.0)])))
    assert (answers.fps, answers.next_ts) == ([float(fps)], [due])


def test_shadow_mode() -> None:
    """In shadow mode every frame would be processed, and the reasons say what would be denied."""
    world = World(default=1.0, shadow=True)
    answers = run(world.preview.decide(batch([("a", 1.0), ("a", 1.5)])))
    reasons = [Reason.ADMITTED, Reason.TOO_SOON]
    assert answers == Answers([True, True], reasons, [1.0, 1.0], [ANY_TIME] * 2, world.table.stale)
