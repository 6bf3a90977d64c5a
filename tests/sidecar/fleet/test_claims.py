"""The claim: the rule in Redis gives the same answers as the rule in Python, to the last bit."""

import math
import random
import struct
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis.valkey import valkey

from handcounter.pacing import schedule
from handcounter.pacing.schedule import Pacing, Reason, Schedule
from sidecar.fleet import claims, reorder
from sidecar.fleet.claims import NO_STATE, UNMERGED, Claim, State
from sidecar.fleet.reorder import Trail

CHANNEL = claims.channel(0)

# The same script with the time as an argument, so that model and server use the same.
TIMED_SCRIPT = claims.CLAIM_SCRIPT.replace("redis.call('TIME')", "{ARGV[5], ARGV[6]}")
START_S = 1_700_000_000


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with valkey() as server, redis.Redis(port=server.port) as connection:
        yield connection


def ask(client: redis.Redis, *asked: Claim, now: float | None = None, pacing: Pacing = Pacing.GCRA):
    keys, states, frames = claims.packed_claims(asked)
    arguments: list[bytes | str] = [claims.packed_constants(pacing), CHANNEL, states, frames]
    script = claims.CLAIM_SCRIPT
    if now is not None:
        script = TIMED_SCRIPT
        arguments += [f"{START_S + now // 1:.0f}", f"{now % 1 * 1e6:.0f}"]
    return claims.unpacked_answers(client.eval(script, len(keys), *keys, *arguments))


def claim(ts: float, fps: float, name: str = "cam", known: State = NO_STATE) -> Claim:
    return Claim(name, ts, fps, known)


RATES = st.one_of(
    st.sampled_from([0.0, 0.25, 1.0, 5.0, 30.0, 1e-3, 1e-300, 5e-324, 1e300, math.inf]),
    st.floats(min_value=0.0, allow_nan=False, exclude_min=False),
    st.floats(0.1, 60.0),
)
STEPS = st.one_of(
    st.floats(0.0, 3.0),
    st.floats(-0.3, 0.3),  # around the reorder window
    st.sampled_from(
        [
            0.0,
            1 / 30,
            1 / 60,
            -1 / 30,
            -1 / 60,
            1 / 25,
            0.1,
            1.0,
            -0.1,
            -1.9999999,
            -2.0,
            -2.0000001,
            -500.0,
            500.0,
            1e9,
        ]
    ),
    st.floats(-1e10, 1e10),
)
DUE = st.integers(-2, 2)  # this many floats from the earliest ts that is admitted
HISTORIES = st.lists(
    st.tuples(st.integers(0, 2), STEPS | DUE, RATES, st.floats(0.0, 3.0).map(lambda wait: round(wait, 6))), max_size=40
)


def stepped(ts: float, step: float | int, state: Schedule | None, fps: float) -> float:
    """Returns the next ts of a history: one step further, or within a few floats of the stream's next admission."""
    if isinstance(step, float):
        ts += step
    else:
        due = schedule.next_ts(state, fps)
        ts = due if math.isfinite(due) else ts
        for _ in range(abs(step)):
            ts = math.nextafter(ts, math.copysign(math.inf, step))
    return min(max(ts, 0.0), schedule.MAX_TS)


@settings(max_examples=150)
@given(HISTORIES, st.sampled_from(Pacing), st.lists(st.integers(1, 6), min_size=1))
def test_lua_rule_is_the_python_rule(client, history, pacing, batch_sizes):
    """Any history of several streams, in batches of any size, has the answers and the states of reorder.decide."""
    client.flushall()
    model: dict[str, Trail | None] = {}
    now, ts, at, batch = 0.0, 1000.0, 0, 0
    while at < len(history):
        size = batch_sizes[batch % len(batch_sizes)]
        batch += 1
        now = round(now + history[at][3], 6)
        frames = []
        for stream, step, fps, _ in history[at : at + size]:
            before = model.get(f"cam{stream}")
            ts = stepped(ts, step, before.schedule if before else None, fps)
            frames.append((f"cam{stream}", ts, fps))
        at += size
        assert_same(client, model, frames, now, pacing)


def assert_same(
    client: redis.Redis,
    model: dict[str, Trail | None],
    frames: list[tuple[str, float, float]],
    now: float,
    pacing: Pacing,
) -> None:
    """Decides frames, each a stream, a ts and a limit, in one call and by reorder.decide, which advances the model."""
    redis_now = float(START_S + now // 1) + float(f"{now % 1 * 1e6:.0f}") / 1e6
    expected = []
    for name, ts, fps in frames:
        reason, model[name] = reorder.decide(model.get(name), ts, fps, redis_now, pacing)
        expected.append((reason, model[name]))
    answers = ask(client, *(claim(ts, fps, name) for name, ts, fps in frames), now=now, pacing=pacing)
    for (reason, state), (expected_reason, trail) in zip(answers, expected, strict=True):
        assert reason is expected_reason
        if trail is None:
            assert state == NO_STATE
        else:
            assert (state.slot, state.last_ts) == trail.schedule[:2]
            assert state.age == redis_now - trail.schedule.admitted_at
            assert (state.base, state.earlier) == trail[1:]


def next_late(dice: random.Random, trail: Trail | None, newest: float, period: float) -> float:
    """Draws a ts near a camera's newest frame: on a grid that doubles represent exactly, or at the edge of a slot."""
    if trail and dice.random() < 0.15:
        return (trail.base if trail.earlier else trail.schedule.slot) + period - schedule.TOLERANCE_S
    return newest + dice.choice((-256, -40, *range(-33, 9), *range(1, 9), *range(1, 9), 40)) / 128


@pytest.mark.parametrize("pacing", Pacing)
def test_lua_rule_places_late_frames_like_the_python_rule(client, pacing):
    """Histories in which most frames are out of order, by less than the window and up to its edges."""
    reasons: Counter[Reason] = Counter()
    longest: set[int] = set()
    for seed in range(16):
        client.flushall()
        dice = random.Random(seed)
        model: dict[str, Trail | None] = {}
        newest, now, fps = 1000.0, 0.0, 128.0
        for _ in range(40):
            now = round(now + dice.choice((0.0, 0.005, 1.0)), 6)
            fps = dice.choice((8.0, 16.0, 32.0, 64.0, 128.0, 1000.0, math.inf)) if dice.random() < 0.1 else fps
            frames = []
            trail = model.get("cam")  # as far as the frames of this call take it
            for _ in range(dice.randint(1, 12)):
                ts = next_late(dice, trail, newest, 1 / fps)
                newest = max(newest, ts)
                reason, trail = reorder.decide(trail, ts, fps, now, pacing)
                reasons[reason] += 1
                longest.add(len(trail.earlier))
                frames.append(("cam", ts, fps))
            assert_same(client, model, frames, now, pacing)
    assert min(reasons[reason] for reason in Reason if reason is not Reason.PAUSED) > 20
    assert max(longest) == reorder.MOST_EARLIER


def test_reason_numbers_are_those_of_the_contract(client):
    """Each reason of the script arrives as the reason of the same name."""
    asked = [claim(10, 1), claim(10, 1), claim(9, 1), claim(10.5, 1), claim(11, 0)]
    reasons = [answer.reason for answer in ask(client, *asked)]
    assert reasons == [Reason.ADMITTED, Reason.DUPLICATE, Reason.LATE, Reason.TOO_SOON, Reason.PAUSED]


def test_restart_is_paced_by_the_servers_clock(client):
    """After a restart of the stream's clock the next admission waits a period of the server's time."""
    assert ask(client, claim(5000.0, 0.5, "restarted"), now=100.0)[0].reason is Reason.ADMITTED
    assert ask(client, claim(1.0, 0.5, "restarted"), now=101.9)[0].reason is Reason.TOO_SOON
    assert ask(client, claim(1.1, 0.5, "restarted"), now=102.0)[0].reason is Reason.ADMITTED


def test_servers_clock_may_be_set_back(client):
    """If the server's clock is set back by hours, restarted streams don't wait until it has caught up."""
    ask(client, claim(5000.0, 0.5, "back"), now=90_000.0)
    [(reason, state)] = ask(client, claim(1.0, 0.5, "back"), now=100.0)
    assert reason is Reason.ADMITTED
    assert ask(client, claim(1.5, 0.5, "back"), now=101.0)[0].state.age == 1.0
    [(_, later)] = ask(client, claim(3.1, 0.5, "back"), now=102.0)
    assert later.version > state.version


@pytest.mark.parametrize("microseconds", range(-3, 3))
def test_restart_is_due_at_the_same_instant(client, microseconds):
    """A restart is admitted from the same instant on as by the Python rule, including tolerance and rounding."""
    name = f"instant{microseconds}"
    now = 102 + microseconds / 1e6
    ask(client, claim(5000.0, 0.5, name), now=100)
    redis_now = float(START_S + now // 1) + float(f"{now % 1 * 1e6:.0f}") / 1e6
    expected = schedule.decide(Schedule(5000.0, 5000.0, START_S + 100.0), 1.0, 0.5, redis_now)
    assert ask(client, claim(1.0, 0.5, name), now=now)[0].reason is expected.reason


def test_real_time_is_the_servers(client):
    """The age of an admission is measured with Redis TIME, and its version follows it."""
    [(_, state)] = ask(client, claim(7.0, 1, "timed"))
    seconds, microseconds = client.time()
    assert state.age == 0.0
    assert 0 <= seconds + microseconds / 1e6 - state.version / 1e6 < 60


@pytest.mark.parametrize(
    ("fps", "shortest", "longest"),
    [(30.0, 3590, 3600), (1 / 1500, 3590, 3600), (1e-4, 19990, 20000), (1e-300, 1e9 - 10, 1e9)],
)
def test_state_outlives_two_periods(client, fps, shortest, longest):
    """A state key lives for an hour or two periods, whichever is longer."""
    ask(client, claim(7.0, fps, f"ttl{fps}"))
    assert shortest <= client.ttl(claims.state_key(f"ttl{fps}")) <= longest


def test_a_lost_state_is_restored_from_the_replica(client):
    """After a flush the state in the claim replaces the lost one, so the flush admits nothing."""
    [(_, state)] = ask(client, claim(100.0, 1, "flushed"), now=10.0)
    client.flushall()
    [(reason, after)] = ask(client, claim(100.5, 1, "flushed", state._replace(age=2.0)), now=12.0)
    assert reason is Reason.TOO_SOON
    assert after == state._replace(age=2.0)


def test_any_state_is_newer_than_none(client):
    """A server without a state takes the replica's, however low its version."""
    client.flushall()
    [(reason, after)] = ask(client, claim(100.5, 1, known=State(100.0, 100.0, 1.0, version=1.0)))
    assert (reason, after.last_ts) == (Reason.TOO_SOON, 100.0)


def test_a_lost_trail_is_restored_from_the_replica(client):
    """After a flush late frames are also decided by the admissions that the replica knows."""
    for ts in (100.0, 100.1):
        [(_, state)] = ask(client, claim(ts, 30, "trail"))
    client.flushall()
    reasons = [answer.reason for answer in ask(client, *(claim(ts, 30, "trail", state) for ts in (100.0, 100.05)))]
    assert reasons == [Reason.LATE, Reason.ADMITTED]


def test_older_knowledge_is_ignored(client):
    """A claim with an older state than that in Redis changes nothing."""
    [(_, older)] = ask(client, claim(100.0, 1, "older"))
    [(_, newer)] = ask(client, claim(101.0, 1, "older"))
    [(reason, after)] = ask(client, claim(101.5, 1, "older", older))
    assert reason is Reason.TOO_SOON
    assert after[:2] == newer[:2]


def test_admissions_without_redis_are_merged(client):
    """Admissions while Redis was unreachable delay the next frame, and all replicas hear of them."""
    [(_, before)] = ask(client, claim(100.0, 1, "alone"))
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(CHANNEL)
        assert listener.get_message(timeout=120) is None  # the subscription's own confirmation
        [(reason, after)] = ask(client, claim(110.5, 1, "merged", State(110.0, 110.0, 0.5, UNMERGED)))
        message = listener.get_message(timeout=120)
    assert reason is Reason.TOO_SOON
    assert after[:2] == (110.0, 110.0)
    assert math.isfinite(after.version)
    assert after.version > before.version
    [(name, published)] = claims.unpacked_changes(message["data"])
    assert (name, published) == ("merged", after)


@pytest.mark.parametrize(("age", "expected"), [(0.5, 0.5), (9.0, 3.0)])
def test_admissions_without_redis_are_merged_into_a_state(client, age, expected):
    """The merged state has the later slot and ts, the age of the last admission, and the next version."""
    client.flushall()
    ask(client, claim(100.0, 1, "both"), now=10.0)
    known = State(110.0, 109.5, age, UNMERGED, earlier=(108.0,))
    [(reason, after)] = ask(client, claim(110.5, 1, "both", known), now=13.0)
    assert reason is Reason.TOO_SOON
    assert after == State(110.0, 109.5, expected, 1e6 * (START_S + 13.0))


def test_a_version_follows_the_servers_clock_and_grows_by_one_within_an_instant(client):
    """Two admissions at the same time have neighbouring versions, also if the clock was set back in between."""
    client.flushall()
    versions = [ask(client, claim(ts, 1), now=now)[0].state.version for ts, now in ((1.0, 7.0), (2.0, 7.0), (3.0, 6.0))]
    assert versions == [1e6 * (START_S + 7.0) + number for number in range(3)]


def test_admissions_without_redis_never_set_the_state_back(client):
    """A merge takes the later state, so a replica that admitted less doesn't undo what others used."""
    ask(client, claim(200.0, 1, "ahead"))
    [(reason, after)] = ask(client, claim(200.5, 1, "ahead", State(150.0, 150.0, 9.0, UNMERGED)))
    assert reason is Reason.TOO_SOON
    assert after[:2] == (200.0, 200.0)


def test_version_grows_across_a_flush(client):
    """A new state has a higher version than the lost one, so no replica takes it for an old one."""
    [(_, before)] = ask(client, claim(100.0, 10, "versions"))
    client.flushall()
    [(_, after)] = ask(client, claim(100.0, 10, "versions"))
    assert after.version > before.version


def test_each_admission_is_published_with_its_state(client):
    """One call publishes one message with all states that it changed, and none if it changed nothing."""
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(CHANNEL)
        assert listener.get_message(timeout=120) is None
        answers = ask(client, claim(1.0, 1, "a:}{"), claim(1.0, 1, "b\0ü"), claim(2.0, 0, "c"))
        message = listener.get_message(timeout=120)
        ask(client, claim(1.5, 1, "a:}{"))
        assert listener.get_message(timeout=0.05) is None
    assert list(claims.unpacked_changes(message["data"])) == [("a:}{", answers[0].state), ("b\0ü", answers[1].state)]


def test_the_newest_state_of_a_stream_is_used():
    """If several claims for one stream carry states, the newest state counts."""
    known = [State(1, 1, 0, 5), State(2, 2, 0, 9), State(3, 3, 0, 7)]
    keys, states, frames = claims.packed_claims([claim(1, 1, known=state) for state in known])
    assert len(keys) == 1
    assert states == struct.pack("<dddddB", *known[1][:5], 0)
    assert len(frames) == 3 * 20


@pytest.mark.parametrize("message", [b"hello", b"\x04\0" + 40 * b"\0" + b"\xff" + 60 * b"\0"])
def test_a_foreign_message_is_rejected(message):
    """Bytes on the channel that no claim published raise ValueError."""
    with pytest.raises(ValueError, match="not a message of a claim"):
        list(claims.unpacked_changes(message))


def test_a_foreign_value_is_replaced(client):
    """A foreign string or another type under a state key is ignored and replaced."""
    client.set(claims.state_key("foreign"), "hello")
    client.hset(claims.state_key("foreign2"), "a", "b")
    client.set(claims.state_key("foreign3"), 40 * b"\0" + b"\xff" + 255 * 8 * b"\0")  # more than any trail
    answers = ask(client, *(claim(1.0, 1, name) for name in ("foreign", "foreign2", "foreign3")))
    assert [answer.reason for answer in answers] == [Reason.ADMITTED] * 3


def test_keys_of_a_tag_share_a_slot():
    """All keys with one tag share a hash slot of a cluster, whatever the name contains."""
    for name in ("cam1", "{x}", "}{", "ü" * 256):
        key = claims.state_key(name)
        tag = claims.tag_of(name)
        assert redis.cluster.key_slot(key) == redis.cluster.key_slot(claims.tag_key(tag))


class TestHeartbeat:
    def beat(self, client: redis.Redis, identity: str) -> list[int]:
        return client.eval(claims.HEARTBEAT_SCRIPT, 1, claims.REPLICAS_KEY, identity, claims.REPLICA_GONE_S)

    def test_counts_and_ranks(self, client):
        """Each replica gets the number of replicas and its own place, which doesn't depend on who asks first."""
        client.flushall()
        assert self.beat(client, "b") == [1, 0]
        assert self.beat(client, "a") == [2, 0]
        assert self.beat(client, "b") == [2, 1]

    def test_silent_replicas_are_dropped(self, client):
        """A replica that was silent for too long isn't counted any more."""
        client.flushall()
        client.zadd(claims.REPLICAS_KEY, {"gone": client.time()[0] - claims.REPLICA_GONE_S - 1})
        assert self.beat(client, "a") == [1, 0]
