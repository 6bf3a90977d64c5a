"""What is read when: a table of cases."""

import math
from collections.abc import Callable

import pytest

from sidecar.limits.reading_plan import BUSY_FACTOR, COALESCE_S, HEARTBEAT_S, Action, ReadingPlan, Step

NOW = 1000.0
"""When the plan of each case was made, and its first reading began."""
PERIOD_S = 30.0
READING_S = 0.125

Events = Callable[[ReadingPlan], object]


def read(plan: ReadingPlan, began: float = NOW, took: float = READING_S) -> None:
    plan.begin_reading(began)
    plan.end_reading(began + took)


def push_during_a_reading(plan: ReadingPlan) -> None:
    plan.begin_reading(NOW)
    plan.record_push(NOW + READING_S / 2)
    plan.end_reading(NOW + READING_S)


def after(*events: Events) -> Events:
    """These events, one after the other."""
    return lambda plan: [event(plan) for event in events]


def push(at: float) -> Events:
    return lambda plan: plan.record_push(at)


def small_push(at: float) -> Events:
    return lambda plan: plan.record_small_push(at)


def small_read(began: float, took: float = READING_S) -> Events:
    return after(lambda plan: plan.begin_small_reading(began), lambda plan: plan.end_small_reading(began + took))


def new(*names: str) -> Events:
    return lambda plan: plan.await_streams(names)


def answer(at: float) -> Events:
    return lambda plan: plan.record_answer(at)


ENDED = NOW + READING_S
RESTED = ENDED + BUSY_FACTOR * READING_S - COALESCE_S

CASES: list[tuple[str, Events, float, Action]] = [
    # A connection begins with a reading of everything, whatever else there is.
    ("new connection", after(), NOW, Action(Step.RESYNC)),
    ("new connection, new stream", new("a"), NOW, Action(Step.RESYNC)),
    # Nothing happens: a heartbeat each second, a resync each period.
    ("idle", read, ENDED, Action(Step.WAIT, ENDED + HEARTBEAT_S)),
    ("idle, just before the heartbeat", read, ENDED + 0.999, Action(Step.WAIT, ENDED + HEARTBEAT_S)),
    ("heartbeat", read, ENDED + HEARTBEAT_S, Action(Step.PING)),
    ("after the heartbeat", after(read, answer(ENDED + 1.0)), ENDED + 1.0, Action(Step.WAIT, ENDED + 2.0)),
    ("shortly before a resync", after(read, answer(NOW + 29.5)), NOW + 29.6, Action(Step.WAIT, NOW + PERIOD_S)),
    ("resync", after(read, answer(NOW + 29.5)), NOW + PERIOD_S, Action(Step.RESYNC)),
    ("a resync comes before a heartbeat", read, NOW + PERIOD_S, Action(Step.RESYNC)),
    # A push.
    ("coalescing", after(read, push(NOW + 5.0)), NOW + 5.0, Action(Step.COALESCE, NOW + 5.0 + COALESCE_S)),
    ("coalesced", after(read, push(NOW + 5.0)), NOW + 5.0 + COALESCE_S, Action(Step.READ_WATCHED)),
    (
        "a second push moves nothing",
        after(read, push(NOW + 5.0), push(NOW + 5.001)),
        NOW + 5.001,
        Action(Step.COALESCE, NOW + 5.0 + COALESCE_S),
    ),
    (
        "a push that was read",
        after(read, push(NOW + 5.0), lambda p: read(p, NOW + 5.002, 0.0)),
        NOW + 5.002,
        Action(Step.WAIT, NOW + 5.002 + HEARTBEAT_S),
    ),
    (
        "a push when a resync is due",
        after(read, push(NOW + 40.0)),
        NOW + 40.0,
        Action(Step.COALESCE, NOW + 40.0 + COALESCE_S),
    ),
    # The rest after a reading.
    ("resting", push_during_a_reading, ENDED, Action(Step.WAIT, RESTED)),
    ("rested, but not coalesced", push_during_a_reading, RESTED, Action(Step.COALESCE, RESTED + COALESCE_S)),
    ("rested", push_during_a_reading, RESTED + COALESCE_S, Action(Step.READ_WATCHED)),
    ("a push while resting", after(read, push(ENDED + 0.01)), ENDED + 0.01, Action(Step.WAIT, RESTED)),
    (
        "a short reading needs no rest, but its pushes are coalesced",
        after(lambda p: p.begin_reading(NOW), push(NOW), lambda p: p.end_reading(NOW + 0.001)),
        NOW + 0.001,
        Action(Step.COALESCE, NOW + 0.001 + COALESCE_S),
    ),
    # Awaited streams.
    ("a new stream", after(read, new("a")), NOW + 0.5, Action(Step.READ_AWAITED)),
    (
        "a new stream comes before coalescing",
        after(read, push(NOW + 5.0), new("a")),
        NOW + 5.0,
        Action(Step.READ_AWAITED),
    ),
    ("a new stream comes before resting", after(push_during_a_reading, new("a")), ENDED, Action(Step.READ_AWAITED)),
    ("a new stream comes before a heartbeat", after(read, new("a")), NOW + 9.0, Action(Step.READ_AWAITED)),
    (
        "a new stream doesn't hold up a reading",
        after(read, push(NOW + 5.0), new("a")),
        NOW + 5.002,
        Action(Step.READ_WATCHED),
    ),
    ("a new stream doesn't hold up a resync", after(read, new("a")), NOW + PERIOD_S, Action(Step.RESYNC)),
    (
        "a new stream that was taken",
        after(read, new("a"), lambda p: p.take_awaited(), answer(NOW + 0.5)),
        NOW + 0.5,
        Action(Step.WAIT, NOW + 0.5 + HEARTBEAT_S),
    ),
    # Small hashes: the same rules, and nothing but them is read.
    ("small: coalescing", after(read, small_push(NOW + 5.0)), NOW + 5.0, Action(Step.COALESCE, NOW + 5.0 + COALESCE_S)),
    ("small: coalesced", after(read, small_push(NOW + 5.0)), NOW + 5.0 + COALESCE_S, Action(Step.READ_SMALL)),
    (
        "small: read, and nothing is left to do",
        after(read, small_push(NOW + 5.0), small_read(NOW + 5.002, 0.0)),
        NOW + 5.002,
        Action(Step.WAIT, NOW + 5.002 + HEARTBEAT_S),
    ),
    (
        "small: before the streams",
        after(read, push(NOW + 5.0), small_push(NOW + 5.0)),
        NOW + 5.002,
        Action(Step.READ_SMALL),
    ),
    (
        "small: then the streams",
        after(read, push(NOW + 5.0), small_push(NOW + 5.0), small_read(NOW + 5.002, 0.0)),
        NOW + 5.002,
        Action(Step.READ_WATCHED),
    ),
    (
        "small: resting, while the streams need no rest",
        after(read, small_push(NOW + 5.0), small_read(NOW + 5.0), small_push(NOW + 5.1), push(NOW + 5.15)),
        NOW + 5.152,
        Action(Step.READ_WATCHED),
    ),
    (
        "small: resting",
        after(read, small_push(NOW + 5.0), small_read(NOW + 5.0), small_push(NOW + 5.1)),
        NOW + 5.0 + READING_S,
        Action(Step.WAIT, NOW + 5.0 + READING_S + BUSY_FACTOR * READING_S - COALESCE_S),
    ),
    ("small: a new connection reads everything", small_push(NOW), NOW + 1.0, Action(Step.RESYNC)),
    ("streams: a new connection reads everything", push(NOW), NOW + 1.0, Action(Step.RESYNC)),
    (
        "small: a resync when one is due",
        after(read, small_push(NOW + PERIOD_S)),
        NOW + PERIOD_S,
        Action(Step.RESYNC),
    ),
]


@pytest.mark.parametrize(("events", "now", "action"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_comes_next(events: Events, now: float, action: Action) -> None:
    """After these events this is the next action; asking for it changes nothing."""
    plan = ReadingPlan(NOW, period_s=PERIOD_S, pushed=True)
    events(plan)
    for _ in range(2):
        step, until = plan.next(now)
        assert step is action.step
        assert until == pytest.approx(action.until, abs=1e-9, nan_ok=True)


def test_awaited_streams_are_taken_once() -> None:
    """However many frames wait for a stream, it is read once; order is kept."""
    plan = ReadingPlan(NOW, period_s=PERIOD_S, pushed=True)
    plan.await_streams(["a", "b"])
    plan.await_streams(["b", "c"])
    assert plan.take_awaited() == ["a", "b", "c"]
    assert plan.take_awaited() == []


AGREEMENTS: list[tuple[str, bool, Events, float]] = [
    ("nothing was read", True, after(), -math.inf),
    ("a reading", True, read, ENDED),
    ("a reading that a push overtook", True, push_during_a_reading, -math.inf),
    ("half a reading", True, after(lambda p: p.begin_reading(NOW), answer(NOW + 0.05)), -math.inf),
    ("an answer without a push before it", True, after(read, answer(NOW + 5.0)), NOW + 5.0),
    ("an answer after a push", True, after(read, push(NOW + 4.0), answer(NOW + 5.0)), ENDED),
    ("an answer after a push of a small hash", True, after(read, small_push(NOW + 4.0), answer(NOW + 5.0)), ENDED),
    (
        "a small hash that was read",
        True,
        after(read, small_push(NOW + 4.0), small_read(NOW + 5.0, 1.0)),
        NOW + 6.0,
    ),
    ("half a small hash", True, after(read, lambda p: p.begin_small_reading(NOW + 5.0), answer(NOW + 5.5)), ENDED),
    ("an answer where nothing is pushed", False, after(read, answer(NOW + 5.0)), NOW),
]


@pytest.mark.parametrize(("pushed", "events", "agreed_at"), [c[1:] for c in AGREEMENTS], ids=[c[0] for c in AGREEMENTS])
def test_when_the_table_agreed_with_redis(pushed: bool, events: Events, agreed_at: float) -> None:
    """A table is current when all was read and no push came since; without pushes, only as a reading begins."""
    plan = ReadingPlan(NOW, period_s=PERIOD_S, pushed=pushed)
    events(plan)
    assert plan.agreed_at == agreed_at
