"""``publish --sidecar`` with a real sidecar and a real Valkey: what is admitted in the end is what is admitted without it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from support.processes.ports import free_port
from support.processes.sidecars import LIMITS_ARE_WAITED_FOR, SidecarProcess, sidecar_process
from support.processes.workers import KEYS, QueueServer
from support.publishing import PublishProcess, h264, jpeg, motion_jpeg
from support.waiting import wait_until

from handcounter.ratelimit.v1 import rate_limit_pb2 as pb
from handcounter.ratelimit.v1 import rate_limit_pb2_grpc
from worker.queue.frame import parse_entry

LIMITS = "stream_fps_configs"
DEFAULT_FPS = 2.0
PATIENT = {"worker.publish.uplink.LIMITS_S": 60.0}
"""Constants of a publisher that waits for its limit, however busy the machine is."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[QueueServer]:
    """A Valkey."""
    server = QueueServer(tmp_path)
    yield server
    server.close()


@contextmanager
def sidecar_of(valkey: QueueServer, port: int | None = None) -> Iterator[SidecarProcess]:
    """Runs a sidecar."""
    with sidecar_process(redis_url=valkey.url, fps=DEFAULT_FPS, port=port, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        yield sidecar


@contextmanager
def publishing(valkey: QueueServer, source: object, name: str, *flags: str) -> Iterator[PublishProcess]:
    """Runs a publisher."""
    where = ("--stream-name", name, "--redis-url", valkey.url)
    process = PublishProcess(str(source), *where, *flags, constants=PATIENT)
    try:
        yield process
    finally:
        process.end()


def published(valkey: QueueServer, name: str) -> list[float]:
    """Returns the ts of a stream's frames in the queue."""
    frames = [parse_entry(entry_id.decode(), fields) for entry_id, fields in valkey.bytes.xrange(KEYS.frames)]
    return [frame.ts for frame in frames if frame.stream_name == name]


def stub_of(channel: grpc.Channel) -> rate_limit_pb2_grpc.RateLimitServiceStub:
    """Returns a stub."""
    return rate_limit_pb2_grpc.RateLimitServiceStub(channel)


@pytest.mark.parametrize("fps", ["0", "0.5", "1", "5", "17", "25", "inf"])
def test_the_same_frames_are_admitted(valkey: QueueServer, tmp_path: Path, fps: str) -> None:
    """Of a film that needs no other frames to decode one: with thinning and without; and with it none is published in vain."""
    film = motion_jpeg(tmp_path / "film.avi", [jpeg(index % 24) for index in range(300)], fps=25)
    valkey.bytes.hset(LIMITS, "*", fps)
    with sidecar_of(valkey) as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        admitted = {}
        for name, flags in (("all", ()), ("thinned", ("--sidecar", sidecar.address))):
            with publishing(valkey, film, name, "--fast", *flags) as process:
                assert process.wait() == 0, process.said
                total = process.says("finished")[0]
            tss = published(valkey, name)
            request = pb.ShouldProcessBatchRequest(stream_names=[name] * len(tss), ts=tss)
            answers = stub_of(channel).ShouldProcessBatch(request).should_process
            admitted[name] = [ts for ts, admits in zip(tss, answers, strict=True) if admits]
            if name == "thinned":
                assert admitted[name] == tss
                assert f"thinned={300 - len(tss)}" in total
        assert [round(ts - admitted["all"][0], 3) for ts in admitted["all"]] == [
            round(ts - admitted["thinned"][0], 3) for ts in admitted["thinned"]
        ]
        assert bool(admitted["all"]) is (fps != "0")


@pytest.mark.parametrize("fps", ["0.5", "1", "5", "17"])
def test_as_many_frames_are_admitted_of_a_compressed_film(valkey: QueueServer, tmp_path: Path, fps: str) -> None:
    """They may be others, where key frames serve the limit, but not fewer, and none is published in vain."""
    film = h264(tmp_path / "film.mp4", [index / 25 for index in range(500)])
    valkey.bytes.hset(LIMITS, "*", fps)
    with sidecar_of(valkey) as sidecar, grpc.insecure_channel(sidecar.address) as channel:
        with publishing(valkey, film, "cam1", "--fast", "--sidecar", sidecar.address) as process:
            assert process.wait() == 0, process.said
        tss = published(valkey, "cam1")
        request = pb.ShouldProcessBatchRequest(stream_names=["cam1"] * len(tss), ts=tss)
        assert all(stub_of(channel).ShouldProcessBatch(request).should_process)
        assert len(tss) == pytest.approx(20 * float(fps), abs=1)


def test_a_limit_that_changes_acts_at_once(valkey: QueueServer) -> None:
    """A pause stops the uploads, and its end resumes them; ListStreams has the camera's own rate all the time."""
    valkey.bytes.hset(LIMITS, "cam1", "5")
    with (
        sidecar_of(valkey) as sidecar,
        grpc.insecure_channel(sidecar.address) as channel,
        publishing(valkey, "synthetic:fps=25,size=64x64", "cam1", "--sidecar", sidecar.address) as process,
    ):
        process.until(lambda: len(published(valkey, "cam1")) > 3)
        stub_of(channel).ShouldProcess(pb.ShouldProcessRequest(stream_name="cam1", ts=1.0))

        def source_fps() -> float:
            return stub_of(channel).ListStreams(pb.ListStreamsRequest()).streams[0].source_fps

        process.until(lambda: source_fps() == pytest.approx(25.0, rel=0.05))
        valkey.bytes.hset(LIMITS, "cam1", "0")
        process.until(lambda: _is_still(valkey, "cam1"))
        assert source_fps() == pytest.approx(25.0, rel=0.05)
        before = len(published(valkey, "cam1"))
        valkey.bytes.hset(LIMITS, "cam1", "inf")
        process.until(lambda: len(published(valkey, "cam1")) > before + 10)


def _is_still(valkey: QueueServer, name: str) -> bool:
    """Returns whether two of the camera's seconds passed without a frame of it."""
    tss = published(valkey, name)
    return time.time() > tss[-1] + 2.0


def test_without_the_sidecar_the_last_limit_stays(valkey: QueueServer) -> None:
    """A paused camera stays paused; the loss is said once, and the next sidecar's limit acts."""
    port = free_port()
    valkey.bytes.hset(LIMITS, "cam1", "0")
    with (
        sidecar_of(valkey, port) as sidecar,
        publishing(valkey, "synthetic:fps=25,size=64x64", "cam1", "--sidecar", sidecar.address) as process,
    ):
        process.until(lambda: process.says("only frames that will be admitted are published"))
        sidecar.kill()
        process.until(lambda: process.says("the sidecar tells no limits"))
        valkey.bytes.hset(LIMITS, "cam1", "25")
        paused_until = time.time()
        with sidecar_of(valkey, port):
            process.until(lambda: process.says("the sidecar tells limits again"))
            process.until(lambda: len(published(valkey, "cam1")) > 10)
            assert published(valkey, "cam1")[0] > paused_until
            assert len(process.says("the sidecar tells no limits")) == 1


def test_without_any_limit_everything_is_published(valkey: QueueServer, tmp_path: Path) -> None:
    """As without --sidecar; the worker decides."""
    film = h264(tmp_path / "film.mp4", [index / 25 for index in range(50)])
    where = ("--stream-name", "cam1", "--redis-url", valkey.url, "--fast", "--sidecar", "127.0.0.1:1")
    process = PublishProcess(str(film), *where)
    assert process.wait() == 0, process.said
    assert len(published(valkey, "cam1")) == 50
    wait_until(lambda: process.says("thinned=0"), "the total")
