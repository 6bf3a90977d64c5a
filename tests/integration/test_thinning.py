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


@contextmanager
def sidecar_of(valkey: QueueServer, port: int | None = None) -> Iterator[SidecarProcess]:
    """Runs a sidecar."""
    with sidecar_process(redis_url=valkey.url, fps=DEFAULT_FPS, port=port, constants=LIMITS_ARE_WAITED_FOR) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def sidecar(valkey_process: QueueServer) -> Iterator[SidecarProcess]:
    """A sidecar for the tests that leave it as it is, each with streams of its own."""
    with sidecar_of(valkey_process) as running:
        yield running


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two films at 25 fps: jpeg.avi of 12 s, and h264.mp4 of 20 s."""
    folder = tmp_path_factory.mktemp("films")
    pictures = [jpeg(index) for index in range(24)]
    motion_jpeg(folder / "jpeg.avi", [pictures[index % 24] for index in range(300)], fps=25)
    h264(folder / "h264.mp4", [index / 25 for index in range(500)])
    return folder


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
def test_the_same_frames_are_admitted(valkey: QueueServer, sidecar: SidecarProcess, films: Path, fps: str) -> None:
    """Of a film that needs no other frames to decode one: with thinning and without; and with it none is published in vain."""
    streams = {f"all-{fps}": (), f"thinned-{fps}": ("--sidecar", sidecar.address)}
    valkey.bytes.hset(LIMITS, mapping=dict.fromkeys(streams, fps))
    with grpc.insecure_channel(sidecar.address) as channel:
        admitted = []
        for name, flags in streams.items():
            with publishing(valkey, films / "jpeg.avi", name, "--fast", *flags) as process:
                assert process.wait() == 0, process.said
                total = process.says("finished")[0]
            tss = published(valkey, name)
            request = pb.ShouldProcessBatchRequest(stream_names=[name] * len(tss), ts=tss)
            answers = stub_of(channel).ShouldProcessBatch(request).should_process
            admitted.append([ts for ts, admits in zip(tss, answers, strict=True) if admits])
        without, thinned = admitted
        assert thinned == tss
        assert f"thinned={300 - len(tss)}" in total
        assert [round(ts - without[0], 3) for ts in without] == [round(ts - thinned[0], 3) for ts in thinned]
        assert bool(without) is (fps != "0")


@pytest.mark.parametrize("fps", ["0.5", "1", "5", "17"])
def test_as_many_frames_are_admitted_of_a_compressed_film(
    valkey: QueueServer, sidecar: SidecarProcess, films: Path, fps: str
) -> None:
    """They may be others, where key frames serve the limit, but not fewer, and none is published in vain."""
    name = f"compressed-{fps}"
    valkey.bytes.hset(LIMITS, name, fps)
    with grpc.insecure_channel(sidecar.address) as channel:
        with publishing(valkey, films / "h264.mp4", name, "--fast", "--sidecar", sidecar.address) as process:
            assert process.wait() == 0, process.said
        tss = published(valkey, name)
        request = pb.ShouldProcessBatchRequest(stream_names=[name] * len(tss), ts=tss)
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
