"""Video files, video servers and fakes, for the tests of the publishers."""

import functools
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
from support.processes import programs
from support.processes.ports import accepts, free_port
from support.waiting import wait_until

from worker.picture import Picture, decode
from worker.picture_header import PictureError
from worker.publish.source import Captured, Source, SourceFrame
from worker.publish.thinning import Due, Unlimited

WIDTH, HEIGHT = 80, 60


def numbered(index: int) -> Picture:
    """Returns a picture whose brightness encodes a number, 0 to 23, that survives compression."""
    return np.full((HEIGHT, WIDTH, 3), 30 + index * 8, np.uint8)


@functools.cache
def _planes(index: int) -> np.ndarray:
    """Returns a numbered picture as encoders take it, converted once."""
    return av.VideoFrame.from_ndarray(numbered(index), format="bgr24").reformat(format="yuv420p").to_ndarray()


def number_of(picture: bytes) -> int:
    """Returns the number of an encoded picture."""
    return round((float(decode(picture).mean()) - 30) / 8)


def jpeg(index: int = 0) -> bytes:
    """Returns a numbered picture as JPEG."""
    return cv2.imencode(".jpg", numbered(index))[1].tobytes()


def captured(index: int, ts: float | None = None) -> Captured:
    """Returns a numbered frame."""
    return Captured(float(index) if ts is None else ts, jpeg(index))


def h264(path: Path, times: list[float], **options: str) -> Path:
    """Writes a video with one numbered frame at each of these times, seconds."""
    return film(path, "libx264", times, {"g": "10", "bf": "0", "preset": "ultrafast", **options})


def hevc(path: Path, times: list[float], gop: int) -> Path:
    """Writes such a video as HEVC, with B frames."""
    parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=2:b-adapt=0:pools=none:log-level=none"
    return film(path, "libx265", times, {"preset": "ultrafast", "crf": "10", "x265-params": parameters})


def film(path: Path, codec: str, times: list[float], options: dict[str, str]) -> Path:
    """Writes a video with one numbered frame at each of these times, seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1  # the threads' own work is more than that of so small pictures
        stream.options = options
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(_planes(index % 24), format="yuv420p")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def motion_jpeg(path: Path, pictures: list[bytes], fps: int = 10) -> Path:
    """Writes a video of exactly these JPEGs."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for index, content in enumerate(pictures):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, fps), index, index
            container.mux(packet)
    return path


def encode(picture: Picture) -> bytes:
    """Returns a picture as JPEG."""
    return cv2.imencode(".jpg", picture)[1].tobytes()


def take(
    source: Source, count: int = 10_000, failures: list[str] | None = None, due: Due | None = None
) -> list[Captured]:
    """Returns the first frames of a source that are due and can be encoded; adds the reasons of others to `failures`."""
    taken: list[Captured] = []
    limit = due or Unlimited()
    frames = source.frames(threading.Event(), limit)
    for frame in frames:
        if frame.encode is None or not limit.is_due(frame.ts):
            continue
        try:
            taken.append(Captured(frame.ts, frame.encode()))
        except PictureError as error:
            if failures is None:
                raise
            failures.append(str(error))
        else:
            limit.taken(frame.ts)
        if len(taken) == count:
            break
    frames.close()
    return taken


class RtspServer:
    """A real RTSP server for the videos in a folder, which can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.start()

    def url(self, name: str) -> str:
        """Returns the address of a video."""
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Starts it; returns when it listens."""
        program = Path(sys.executable).parent / "rtsp-server"
        flags = ["-d", str(self._folder), "-H", "127.0.0.1", "-p", str(self.port), "-cp", str(free_port())]
        self._process = subprocess.Popen([str(program), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(self.port), "the RTSP server listens")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()


class MotionJpegCamera:
    """An HTTP camera that sends a number of JPEGs one after the other, and then nothing more."""

    def __init__(self, pictures: list[bytes], fps: float = 25.0, frames: float = math.inf) -> None:
        stop = self._stop = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                index = 0
                while not stop.wait(1 / fps):
                    if index >= frames:
                        continue
                    picture = pictures[index % len(pictures)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + picture + b"\r\n")
                    except OSError:
                        return
                    index += 1

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/video"

    def close(self) -> None:
        """Closes the connection."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class PublishProcess:
    """``hand-counter publish`` as a process."""

    command = "publish"

    def __init__(self, *arguments: str, constants: Mapping[str, float] | None = None) -> None:
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 (lives as long as this)
        self._process = programs.start("worker", self.command, *arguments, output=self._log, constants=constants)

    @property
    def said(self) -> list[str]:
        """Returns the lines that it has written so far."""
        return Path(self._log.name).read_text().splitlines()

    def says(self, words: str) -> list[str]:
        """Returns the lines with these words so far."""
        return [line for line in self.said if words in line]

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for a condition while the process runs."""
        try:
            wait_until(lambda: condition() or self._process.poll() is not None)
            assert condition(), "it has ended"
        except AssertionError as error:
            self.end()
            raise AssertionError("\n".join([str(error), *self.said])) from None

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        """Waits for its end; returns the exit code."""
        try:
            return self._process.wait(seconds)
        finally:
            self.end()

    def ended_by(self, number: int) -> float:
        """Sends a signal, expects exit code 0, and returns the seconds until the exit."""
        started = time.monotonic()
        self.signal(number)
        assert self.wait() == 0, self.said
        return time.monotonic() - started

    def end(self) -> None:
        """Ends it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class IngestProcess(PublishProcess):
    """``hand-counter ingest`` as a process."""

    command = "ingest"

    def __init__(self, path: Path, *arguments: str, constants: Mapping[str, float] | None = None) -> None:
        super().__init__(str(path), "--http", "127.0.0.1:0", *arguments, constants=constants)

    @property
    def http(self) -> str:
        """Returns the address of its endpoint, HOST:PORT."""
        (line,) = self.says("publishing cameras")
        return line.partition("http=")[2].split()[0]


class ListSource:
    """A source of the frames in a list, yielded as fast as they are consumed."""

    codec = ""

    def __init__(self, frames: Iterator[Captured] | list[Captured], live: bool = False, paced: bool = False) -> None:
        self.live = live
        self.paced = paced
        self._frames = frames

    def frames(self, stop: threading.Event, due: Due) -> Iterator[SourceFrame]:  # noqa: ARG002
        """Yields the frames."""
        for frame in self._frames:
            if stop.is_set():
                return
            yield SourceFrame(frame.ts, lambda picture=frame.picture: picture)
