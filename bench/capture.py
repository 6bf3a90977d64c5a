"""The CPU that a camera costs its publisher at each limit, compared with OpenCV's VideoCapture doing the same job.

    python -m bench.capture

Films of 1080p at 25 fps and 4 Mbit/s, as network cameras send it, in H.264 with key frames every 25, 50 and 250 frames and in
HEVC, encoded at the start. Both sides read a film as fast as they can and encode the frames that are due as JPEG. OpenCV
has to decode every frame (grab) and converts those that are due (retrieve). The two sides take turns; CPU is that of the
process with all its threads.
"""

import argparse
import json
import logging
import math
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from handcounter.pacing.schedule import Pacing
from worker.publish.capture import open_capture
from worker.publish.clock_jumps import ClockJumps
from worker.publish.film import Film
from worker.publish.open_source import jpeg_encoder
from worker.publish.options import Reception
from worker.publish.source import Source
from worker.publish.thinner import Thinner
from worker.synthetic.camera import SyntheticCamera
from worker.synthetic.spec import SyntheticSpec

FPS = 25
LIMITS = (0.0, 0.2, 1.0, 5.0, 25.0)
ENCODE = jpeg_encoder(85)
ENCODED_S = 10
"""Seconds of each film that are encoded; longer films repeat them."""


class Kind(NamedTuple):
    """A kind of camera."""

    name: str
    codec: str
    gop: int
    goals: dict[float, float]
    """How many times as much OpenCV must take at a limit."""


KINDS = (
    Kind("H.264, GOP 25", "libx264", 25, {0.0: 10.0, 1.0: 2.0, 25.0: 1.0}),
    Kind("H.264, GOP 50", "libx264", 50, {0.0: 10.0, 0.2: 4.5, 1.0: 1.3, 25.0: 1.0}),
    Kind("H.264, GOP 250", "libx264", 250, {0.0: 10.0, 25.0: 1.0}),
    Kind("HEVC, GOP 50", "libx265", 50, {0.0: 10.0, 25.0: 1.0}),
)


class FixedLimits:
    """Limits that don't change."""

    pacing = Pacing.GCRA
    shadow = False
    unread = False

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def limit(self, stream_name: str) -> "FixedLimits":  # noqa: ARG002
        """Returns the limit of every stream."""
        return self


class Cost(NamedTuple):
    """What a film cost."""

    cpu: float
    """Milliseconds of CPU per second of the film."""
    published: int


def scene(width: int, height: int, count: int) -> Iterator[av.VideoFrame]:
    """Yields frames of a simulated camera with a sensor's noise."""
    camera = SyntheticCamera(SyntheticSpec(fps=float(FPS), hands=(3, 3), size=(width, height)))
    noise = np.random.default_rng(1).normal(0, 3, (height + 97, width, 3)).astype(np.int16)
    for index in range(count):
        shift = index * 31 % 97
        noisy = cv2.add(camera.frame(index), noise[shift : shift + height], dtype=cv2.CV_8U)
        frame = av.VideoFrame.from_ndarray(noisy.astype(np.uint8, copy=False), format="bgr24")
        frame.pts = index
        yield frame


def encode(path: Path, kind: Kind, size: tuple[int, int], seconds: int) -> None:
    """Writes a film of this kind; what is longer than ENCODED_S repeats it."""
    encoded = min(seconds, ENCODED_S)
    options = {"g": str(kind.gop), "preset": "veryfast", "bf": "2", "sc_threshold": "0"}
    if kind.codec == "libx265":
        keys = f"keyint={kind.gop}:min-keyint={kind.gop}:scenecut=0:open-gop=0:bframes=2:log-level=none"
        options = {"preset": "ultrafast", "x265-params": keys}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=FPS)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate, stream.options = "yuv420p", 4_000_000, options
        packets = [packet for frame in scene(*size, encoded * FPS) for packet in stream.encode(frame)]
        packets += stream.encode()
        times = [(packet.pts, packet.dts) for packet in packets]
        step = round(encoded / packets[0].time_base)
        for repetition in range(seconds // encoded):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, packet.is_keyframe
                copy.pts, copy.dts = pts + repetition * step, dts + repetition * step
                container.mux(copy)


def ours(path: Path, limit: float) -> int:
    """Reads a film as a publisher does; returns the number of frames that are due."""

    def opens() -> object:
        return open_capture(f"file:{path}", "film", Reception())

    jumps = ClockJumps({"camera": "film"})
    film: Source = Film("film", opens, ENCODE, start=1e9, loop=False, paced=False, on_jump=jumps)  # type: ignore[arg-type]
    due = Thinner(FixedLimits(limit), "film", time.monotonic)
    published = 0
    for frame in film.frames(threading.Event(), due):
        if frame.encode is not None and due.is_due(frame.ts):
            frame.encode()
            due.taken(frame.ts)
            published += 1
    return published


def opencv(path: Path, limit: float) -> int:
    """Does the same with OpenCV, which can't leave out decoding."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    due = Thinner(FixedLimits(limit), "film", time.monotonic)
    published = 0
    while video.grab():
        ts = 1e9 + video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if due.is_due(ts):
            _, picture = video.retrieve()
            ENCODE(picture)  # type: ignore[arg-type]
            due.taken(ts)
            published += 1
    video.release()
    return published


def measure(read: Callable[[Path, float], int], path: Path, limit: float, seconds: int) -> Cost:
    """Reads a film once."""
    before = time.process_time()
    published = read(path, limit)
    return Cost((time.process_time() - before) / seconds * 1000, published)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=20, help="of each film")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--height", type=int, default=1080)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    cv2.setNumThreads(1)
    size = options.height * 16 // 9 // 2 * 2, options.height
    report: list[dict[str, object]] = []
    print(
        "| film, limit in fps | OpenCV, ms of CPU per second | ours, ms | times less | goal | frames, OpenCV | ours |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = Path(folder) / f"{kind.codec}-{kind.gop}.mp4"
            encode(path, kind, size, options.seconds)
            for limit in LIMITS:
                rounds = [
                    (measure(opencv, path, limit, options.seconds), measure(ours, path, limit, options.seconds))
                    for _ in range(options.rounds)
                ]
                theirs, own = (statistics.median(pair[side].cpu for pair in rounds) for side in (0, 1))
                ratio = statistics.median(theirs.cpu / max(own.cpu, 1e-6) for theirs, own in rounds)
                goal = kind.goals.get(limit, math.nan)
                counts = rounds[0][0].published, rounds[0][1].published
                told = "" if math.isnan(goal) else f"{goal:g}"
                print(
                    f"| {kind.name}, {limit:g} | {theirs:.1f} | {own:.1f} | {ratio:.2f} | {told} "
                    f"| {counts[0]} | {counts[1]} |",
                    flush=True,
                )
                report.append(
                    {"film": kind.name, "limit": limit, "opencv": theirs, "ours": own, "ratio": ratio, "frames": counts}
                )
            path.unlink()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
