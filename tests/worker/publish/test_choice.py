"""How much is decoded, and that the admitted rate stays the configured one."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits import RuleDue

from handcounter.pacing.schedule import Pacing
from worker.publish.choice import Arrived, Decode, Part, Selection, Treatment, choose
from worker.publish.thinning import Unlimited

INF = math.inf


@pytest.mark.parametrize(
    ("arrived", "limit", "catches_up", "decode"),
    [
        # paused, whatever the source
        (Arrived(), 0.0, True, Decode.NOTHING),
        (Arrived(25.0, 0.7, 2.0), 0.0, True, Decode.NOTHING),
        (Arrived(25.0, 0.7, 2.0, whole_frames=False), 0.0, False, Decode.NOTHING),
        # no limit, or one that the source doesn't reach
        (Arrived(), INF, True, Decode.ALL),
        (Arrived(25.0, 0.7, 2.0), INF, True, Decode.ALL),
        (Arrived(25.0, 0.7, 2.0), 25.0, True, Decode.ALL),
        (Arrived(25.0, 0.7, 2.0), 30.0, True, Decode.ALL),
        # one key frame per period or more often
        (Arrived(25.0, 0.7, 2.0), 0.2, True, Decode.KEY_FRAMES),
        (Arrived(25.0, 0.7, 2.0), 0.5, True, Decode.KEY_FRAMES),
        (Arrived(29.97, 1.0, 1.001), 1.0, True, Decode.KEY_FRAMES),
        (Arrived(25.0, 1.0, 0.04), 24.0, True, Decode.KEY_FRAMES),
        (Arrived(None, 1.0, 1.0), 1.0, True, Decode.KEY_FRAMES),
        # key frames come too rarely
        (Arrived(25.0, 0.7, 2.0), 0.51, True, Decode.REFERENCES),
        (Arrived(25.0, 0.7, 2.0), 5.0, True, Decode.REFERENCES),
        (Arrived(25.0, 1.0, 2.0), 5.0, True, Decode.REFERENCES),
        (Arrived(25.0, 0.7, None), 0.2, True, Decode.REFERENCES),
        # too few references
        (Arrived(25.0, 0.7, 2.0), 17.0, True, Decode.DUE),
        (Arrived(25.0, 0.2, 2.0), 5.0, True, Decode.DUE),
        (Arrived(), 0.2, True, Decode.DUE),
        # a frame that comes late would lose rate
        (Arrived(25.0, 0.7, 2.0), 0.2, False, Decode.DUE),
        (Arrived(25.0, 0.7, 2.0), 5.0, False, Decode.DUE),
        # a packet may be half a frame
        (Arrived(25.0, 0.7, 2.0, whole_frames=False), 0.2, True, Decode.ALL),
    ],
)
def test_choices(arrived: Arrived, limit: float, catches_up: bool, decode: Decode) -> None:
    """What arrived and the limit determine what is decoded."""
    assert choose(arrived, limit, catches_up) is decode


def packets(gop: int, pattern: str, count: int, fps: float = 25.0) -> Iterator[Part]:
    """Returns packets in the order of decoding. The pattern repeats within a GOP: P, or B before its P in time."""
    index = 0
    while index < count:
        end = min(index + gop, count)
        yield Part(index / fps, index / fps, True, True)
        at = index + 1
        while at < end:
            group = min(len(pattern), end - at)
            last = at + group - 1
            yield Part(last / fps, last / fps, False, True)
            for b in range(at, last):
                yield Part(b / fps, b / fps, False, False)
            at += group
        index = end


def decoded(parts: list[Part], due: RuleDue, holds: bool = False) -> list[tuple[Part, Treatment]]:
    """Decodes what is selected, takes the frames that are due as they are shown, and returns how packets were treated."""
    selection, treated = Selection(holds=holds), []
    waiting: list[float] = []

    def show(up_to: float) -> None:
        waiting.sort()
        while waiting and waiting[0] < up_to:
            ts = waiting.pop(0)
            if due.is_due(ts):
                due.taken(ts)

    for part in parts:
        how = selection.treat(part, due)
        treated.append((part, how))
        if how in (Treatment.LEAVE_OUT, Treatment.HOLD):
            continue
        waiting.append(part.ts)
        # A decoder shows a frame when the one after it in time, that isn't a B frame, has arrived.
        show(INF if how is Treatment.ALONE else part.ts if part.is_reference else -INF)
    show(INF)
    return treated


def consistent(treated: list[tuple[Part, Treatment]]) -> bool:
    """Returns whether all that a decoded packet refers to was decoded, or held: the references since its key frame."""
    whole = False
    for part, how in treated:
        if how is Treatment.HOLD:
            whole = whole or part.is_key
            if not whole:
                return False
        elif how in (Treatment.RESTART, Treatment.ALONE):
            if not part.is_key:
                return False
            whole = how is Treatment.RESTART
        elif how is Treatment.DECODE:
            if not whole:
                return False
        elif part.is_reference:
            whole = False
    return True


@settings(max_examples=60)
@given(
    gop=st.integers(1, 120),
    pattern=st.sampled_from(["P", "BP", "BBP", "BBBP"]),
    fps=st.sampled_from([5.0, 12.5, 25.0, 30.0, 59.94]),
    limit=st.floats(0.1, 80.0),
    pacing=st.sampled_from(list(Pacing)),
    holds=st.booleans(),
)
def test_the_rate_stays_the_configured_one(
    gop: int, pattern: str, fps: float, limit: float, pacing: Pacing, holds: bool
) -> None:
    """As many frames are admitted as if all were decoded, and no packet is decoded without what it refers to."""
    parts = list(packets(gop, pattern, 1500, fps))
    due, all_due = RuleDue(limit, pacing), RuleDue(limit, pacing)
    treated = decoded(parts, due, holds)
    for part in sorted(parts):
        if all_due.is_due(part.ts):
            all_due.taken(part.ts)
    assert consistent(treated)
    assert len(due.admitted) >= len(all_due.admitted) * 0.99 - 2
    assert len(due.admitted) <= len(all_due.admitted) + 2


@pytest.mark.parametrize(
    ("gop", "pattern", "limit", "most"),
    [
        (50, "P", 0.0, 0),
        (50, "BBP", 0.2, 24),  # the references of the first group, whose length isn't known, and 6 key frames
        (25, "P", 1.0, 55),
        (50, "P", 1.0, 430),  # about half of each group
        (50, "BBP", 1.0, 175),
        (250, "P", 0.2, 510),
        (50, "BBP", 5.0, 320),
    ],
)
def test_what_is_left_out(gop: int, pattern: str, limit: float, most: int) -> None:
    """Of 30 s at 25 fps, no more packets are decoded than the limit needs."""
    treated = decoded(list(packets(gop, pattern, 750)), RuleDue(limit))
    assert sum(how is not Treatment.LEAVE_OUT for _, how in treated) <= most


@pytest.mark.parametrize(("gop", "limit", "decodes"), [(25, 1.0, 30), (50, 1.0, 30), (250, 0.2, 6), (50, 5.0, 150)])
def test_what_is_held(gop: int, limit: float, decodes: int) -> None:
    """Of 30 s at 25 fps, only frames that are due are decoded at once, and those that they wait for in the decoder."""
    due = RuleDue(limit)
    treated = decoded(list(packets(gop, "P", 750)), due, holds=True)
    at_once = [part for part, how in treated if how not in (Treatment.LEAVE_OUT, Treatment.HOLD)]
    assert len(due.admitted) == decodes
    assert len(at_once) <= 2 * decodes


@pytest.mark.parametrize(("fps", "again"), [(0.0, 0), (1.0, 2), (0.2, 12), (25.0, 0), (INF, 0)])
def test_what_may_be_decoded_again(fps: float, again: int) -> None:
    """A tenth of what is decoded for each frame that is due."""
    selection = Selection(holds=True)
    assert selection.decodes_again(fps) == 0
    for part in packets(50, "P", 100):
        selection.treat(part, Unlimited())
    assert selection.decodes_again(fps) == again


def test_everything_without_a_limit() -> None:
    """Each packet is decoded, in one go."""
    selection = Selection()
    treated = [selection.treat(part, Unlimited()) for part in packets(50, "BBP", 200)]
    assert treated == [Treatment.RESTART] + [Treatment.DECODE] * 199


def test_a_pause_ends_at_a_key_frame() -> None:
    """After a pause nothing is decoded before the next key frame; nor are frames that are shown before it."""
    selection, due = Selection(), RuleDue(0.0)
    for part in packets(50, "BBP", 60):
        assert selection.treat(part, due) is Treatment.LEAVE_OUT
    due.limit = INF
    assert selection.treat(Part(3.0, 3.0, False, True), due) is Treatment.LEAVE_OUT
    assert selection.treat(Part(4.0, 4.0, True, True), due) is Treatment.RESTART
    assert selection.treat(Part(3.92, 3.92, False, False), due) is Treatment.LEAVE_OUT
    assert selection.treat(Part(4.04, 4.04, False, True), due) is Treatment.DECODE


def test_a_source_without_positions() -> None:
    """Intervals are measured by the capture times then."""
    selection, due = Selection(), RuleDue(0.2)
    for part in packets(50, "P", 300):
        selection.treat(part._replace(position=math.nan), due)
    assert selection.arrived == Arrived(pytest.approx(25.0), 1.0, pytest.approx(2.0))


def test_some_packets_have_no_position() -> None:
    """Such as the first one of an RTSP camera: its capture time isn't compared with positions. The limit is served at once."""
    selection, due = Selection(), RuleDue(1.0)
    for index, part in enumerate(packets(25, "P", 60)):
        known = part if index % 25 % 7 else part._replace(position=math.nan)
        selection.treat(known._replace(ts=1e9 + part.ts), due)
        if index >= 2:
            assert selection.arrived.fps == pytest.approx(25.0, rel=0.5)
    assert selection.arrived.fps == pytest.approx(25.0, rel=0.1)


def test_key_frames_that_come_when_they_like() -> None:
    """The longest recent interval counts, so that a limit isn't missed because one key frame came early."""
    selection, due = Selection(), RuleDue(1.0)
    for start in (0.0, 2.0, 2.4, 4.4):
        selection.treat(Part(start, start, True, True), due)
    assert selection.arrived.key_every == pytest.approx(2.0)
