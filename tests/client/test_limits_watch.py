"""Watching limits, against a fake sidecar in this process; tests/integration has real ones."""

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
import pytest
from support.waiting import wait_until

from handcounter.client import FpsSource, LimitsWatch, Pacing, StreamLimit, limits_watch
from handcounter.client.testing import FakeSidecar
from handcounter.ratelimit.v1 import rate_limit_pb2 as pb

TIMEOUT_S = 60.0
LOST, FOUND = "the sidecar tells no limits, the last known ones stay in force", "the sidecar tells limits again"


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """A running sidecar."""
    with FakeSidecar(fps={"cam1": 4.0, "off": 0.0}, default_fps=2.0) as sidecar:
        yield sidecar


@pytest.fixture
def watch(sidecar: FakeSidecar) -> Iterator[LimitsWatch]:
    """A client that watches one stream."""
    with LimitsWatch(sidecar.address) as watch:
        watch.watch("cam1", 25.0)
        assert watch.wait_told(TIMEOUT_S)
        yield watch


def test_limits_are_told(sidecar: FakeSidecar, watch: LimitsWatch) -> None:
    """They can be read at any time; streams can be added and removed."""
    assert watch.limit("cam1") == StreamLimit(4.0, FpsSource.OVERRIDE, "")
    assert watch.limit("other") is None
    assert (watch.pacing, watch.shadow, watch.stale, watch.sidecar_unreachable) == (Pacing.GCRA, False, False, False)
    watch.watch("off")
    watch.watch("other")
    assert watch.wait_told(TIMEOUT_S)
    assert watch.limit("off") == StreamLimit(0.0, FpsSource.OVERRIDE, "")
    assert watch.limit("other") == StreamLimit(2.0, FpsSource.DEFAULT, "")
    watch.unwatch("off")
    assert watch.limit("off") is None
    wait_until(lambda: sidecar.source_fps == {"cam1": 25.0, "other": 0.0}, "the sidecar knows")


def test_changes_are_told(sidecar: FakeSidecar) -> None:
    """Also to a function, which may fail."""
    told: list[list[str]] = []

    def record(names: list[str]) -> None:
        told.append(names)
        raise ValueError("a bug")

    with LimitsWatch(sidecar.address, on_told=record) as watch:
        watch.watch("cam1")
        assert watch.wait_told(TIMEOUT_S)
        sidecar.fps["cam1"] = math.inf
        sidecar.tell("cam1", "foreign")
        wait_until(lambda: watch.limit("cam1") == StreamLimit(math.inf, FpsSource.OVERRIDE, ""), "the change is told")
        wait_until(lambda: told[-1:] == [["cam1"]], "the function is called")


def test_a_rate_is_told_again_when_it_changes(sidecar: FakeSidecar, watch: LimitsWatch) -> None:
    """The sidecar knows the newest."""
    watch.watch("cam1", 12.5)
    wait_until(lambda: sidecar.source_fps == {"cam1": 12.5}, "the rate")


def test_stale_limits(sidecar: FakeSidecar, watch: LimitsWatch) -> None:
    """The sidecar says when Redis is unreachable for it."""
    sidecar.stale = True
    sidecar.tell()
    wait_until(lambda: watch.stale, "stale")
    assert not watch.sidecar_unreachable


def test_without_the_sidecar_the_last_limits_stay(
    sidecar: FakeSidecar, watch: LimitsWatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are stale; the loss and the return are logged once each, and the new sidecar is told everything."""
    caplog.set_level(logging.INFO)
    sidecar.stop()
    wait_until(lambda: watch.sidecar_unreachable, "the loss")
    assert watch.stale
    assert watch.limit("cam1") == StreamLimit(4.0, FpsSource.OVERRIDE, "")
    watch.watch("other", 5.0)
    assert not watch.wait_told(0.01)
    sidecar.fps["cam1"] = 9.0
    sidecar.start()
    assert watch.wait_told(TIMEOUT_S)
    assert watch.limit("cam1") == StreamLimit(9.0, FpsSource.OVERRIDE, "")
    assert sidecar.source_fps == {"cam1": 25.0, "other": 5.0}
    assert [record.message for record in caplog.records if record.name == limits_watch.__name__] == [LOST, FOUND]


def test_a_sidecar_that_starts_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It is said once that there is none; until then there are no limits."""
    monkeypatch.setattr(limits_watch, "START_S", 0.01)
    address = f"unix:{tmp_path / 'sidecar.sock'}"
    with LimitsWatch(address) as watch:
        watch.watch("cam1")
        wait_until(lambda: LOST in caplog.messages, "it is said")
        assert watch.limit("cam1") is None
        with FakeSidecar(address=address):
            assert watch.wait_told(TIMEOUT_S)
            assert caplog.messages.count(LOST) == 1


def test_a_sidecar_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """An older one counts as unreachable."""
    with FakeSidecar(sessions=False) as sidecar, LimitsWatch(sidecar.address) as watch:
        wait_until(lambda: LOST in caplog.messages, "it is said")
        assert watch.sidecar_unreachable


class Odd(FakeSidecar):
    """Tells what no sidecar should."""

    def WatchLimits(  # noqa: N802
        self,
        request_iterator: object,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> Iterator[pb.WatchLimitsResponse]:
        limits = [
            pb.StreamLimit(stream_name="a", fps=math.nan),
            pb.StreamLimit(stream_name="b", fps=-1.0),
            pb.StreamLimit(stream_name="c", fps=3.0, fps_source=99),  # type: ignore[arg-type]
            pb.StreamLimit(stream_name="foreign", fps=3.0),
        ]
        yield pb.WatchLimitsResponse(limits=limits, pacing=pb.PACING_MIN_GAP, shadow=True)


def test_what_is_not_valid_is_ignored() -> None:
    """Limits that aren't valid, and those of other streams; a source of a newer sidecar is unknown."""
    with Odd() as sidecar, LimitsWatch(sidecar.address) as watch:
        for name in "abc":
            watch.watch(name)
        wait_until(lambda: watch.limit("c") is not None, "a limit")
        assert watch.limit("c") == StreamLimit(3.0, FpsSource.UNKNOWN, "")
        assert [watch.limit(name) for name in ("a", "b", "foreign")] == [None] * 3
        assert (watch.pacing, watch.shadow) == (Pacing.MIN_GAP, True)


class UnreadAnswers(FakeSidecar):
    """A sidecar that can't read limits."""

    def _limits(self, stream_names: Iterable[str]) -> pb.WatchLimitsResponse:
        message = super()._limits(stream_names)
        for limit in message.limits:
            limit.limit_unread = True
        return message


def test_an_assumed_limit_does_not_replace_one_that_was_read() -> None:
    """A sidecar that starts without Redis doesn't know better than the one before; of other streams it tells a guess."""
    with FakeSidecar(fps={"cam1": 0.0}) as sidecar, LimitsWatch(sidecar.address) as watch:
        watch.watch("cam1")
        assert watch.wait_told(TIMEOUT_S)
        sidecar.stop()
        with UnreadAnswers(address=sidecar.address):
            watch.watch("cam2")
            wait_until(lambda: watch.limit("cam2") is not None, "the assumed limit")
            assert watch.limit("cam2") == StreamLimit(1.0, FpsSource.DEFAULT, "", unread=True)
            assert watch.limit("cam1") == StreamLimit(0.0, FpsSource.OVERRIDE, "")


@pytest.mark.parametrize(("name", "rate"), [("", 1.0), ("a", -1.0), ("a", math.nan), ("a", math.inf)])
def test_what_can_not_be_watched(watch: LimitsWatch, name: str, rate: float) -> None:
    """It is an error here, and the watch goes on."""
    with pytest.raises(ValueError, match=r"stream_name|source_fps"):
        watch.watch(name, rate)


def test_after_the_end(sidecar: FakeSidecar) -> None:
    """The limits can still be read; the sidecar knows that the client is gone."""
    watch = LimitsWatch(sidecar.address)
    watch.watch("cam1")
    assert watch.wait_told(TIMEOUT_S)
    watch.close()
    watch.close()
    assert watch.limit("cam1") == StreamLimit(4.0, FpsSource.OVERRIDE, "")
    wait_until(lambda: sidecar.source_fps == {}, "the end is known")
