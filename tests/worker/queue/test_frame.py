"""How an entry becomes a frame."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handcounter.pacing.schedule import Reason
from worker.queue.frame import SKIP_OF_REASON, DeadReason, EntryError, arrival_time, encode_entry, parse_entry

ID = "1700000000123-4"
PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
GOOD = {b"stream_name": b"cam1", b"ts": b"12.5", b"frame_key": b"key"}


def test_an_entry_becomes_a_frame() -> None:
    """With all of its fields, and the time of arrival from its id."""
    frame = parse_entry(ID, GOOD)
    assert (frame.stream_name, frame.ts, frame.frame_key, frame.payload) == ("cam1", 12.5, b"key", None)
    assert frame.arrived_at == arrival_time(ID) == 1_700_000_000.123


def test_an_inline_picture_wins_over_a_key() -> None:
    """If the picture is inline nothing has to be fetched."""
    frame = parse_entry(ID, {**GOOD, b"frame": b"jpeg"})
    assert (frame.frame_key, frame.payload) == (None, b"jpeg")


@pytest.mark.parametrize(("value", "live"), [(None, True), (b"1", True), (b"", True), (b"no", True), (b"0", False)])
def test_a_frame_is_live_unless_it_says_otherwise(value: bytes | None, live: bool) -> None:
    """Only 0 lets it wait, so a publisher that doesn't know the field has live frames."""
    assert parse_entry(ID, GOOD if value is None else {**GOOD, b"live": value}).live == live


def test_without_ts_the_time_of_arrival_is_used() -> None:
    """As in the sidecar, an absent ts is the time of arrival."""
    assert parse_entry(ID, {b"stream_name": b"cam1", b"frame": b"x"}).ts == 1_700_000_000.123


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({b"stream_name": None}, DeadReason.BAD_STREAM_NAME, "no stream_name"),
        ({b"stream_name": b""}, DeadReason.BAD_STREAM_NAME, "must not be empty"),
        ({b"stream_name": b"x" * 257}, DeadReason.BAD_STREAM_NAME, "at most 256"),
        ({b"stream_name": b"\xff\xfe"}, DeadReason.BAD_STREAM_NAME, "isn't UTF-8"),
        ({b"ts": b"soon"}, DeadReason.BAD_TS, "isn't a number"),
        ({b"ts": b"1_000"}, DeadReason.BAD_TS, "isn't a number"),
        ({b"ts": b""}, DeadReason.BAD_TS, "isn't a number"),
        ({b"ts": b"nan"}, DeadReason.BAD_TS, "finite"),
        ({b"ts": b"inf"}, DeadReason.BAD_TS, "finite"),
        ({b"ts": b"-1"}, DeadReason.BAD_TS, "negative"),
        ({b"ts": b"1700000000000"}, DeadReason.BAD_TS, "milliseconds"),
        ({b"frame_key": None}, DeadReason.NO_PAYLOAD, "neither"),
        ({b"frame_key": b"", b"frame": b""}, DeadReason.NO_PAYLOAD, "neither"),
    ],
)
def test_an_invalid_entry_has_its_reason(change: dict[bytes, bytes | None], reason: DeadReason, message: str) -> None:
    """The message says what isn't valid."""
    fields = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(EntryError, match=message) as caught:
        parse_entry(ID, fields)
    assert caught.value.reason is reason


@given(st.text(PRINTABLE, min_size=1, max_size=256), st.floats(0.0, 1e11))
def test_encoded_entries_are_parsed_again(stream_name: str, ts: float) -> None:
    """A name and a ts come through the queue unchanged, to the last bit."""
    fields = {name.encode(): value.encode() for name, value in encode_entry(stream_name, ts, "key").items()}
    frame = parse_entry(ID, fields)
    assert (frame.stream_name, frame.ts, frame.frame_key) == (stream_name, ts, b"key")


@given(st.dictionaries(st.sampled_from([b"stream_name", b"ts", b"frame", b"frame_key"]), st.binary(max_size=300)))
def test_any_bytes_are_a_frame_or_a_dead_letter(fields: dict[bytes, bytes]) -> None:
    """No other error is raised, and what is accepted the sidecar accepts too."""
    try:
        frame = parse_entry(ID, fields)
    except EntryError:
        return
    assert 1 <= len(frame.stream_name) <= 256
    assert 0.0 <= frame.ts <= 1e11


@pytest.mark.parametrize(("stream_name", "ts"), [("", 1.0), ("x" * 257, 1.0), ("cam", math.nan), ("cam", -1.0)])
def test_publishers_cannot_encode_invalid_frames(stream_name: str, ts: float) -> None:
    """The error is raised where the mistake was made."""
    with pytest.raises(ValueError, match="must"):
        encode_entry(stream_name, ts, "key")


def test_every_denial_is_a_skip() -> None:
    """Each reason for a denial has a reason for skipping."""
    assert set(SKIP_OF_REASON) == set(Reason) - {Reason.ADMITTED}
