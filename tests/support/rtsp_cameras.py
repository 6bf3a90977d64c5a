"""Many RTSP cameras of one film: a server that sends H.264 over TCP, in real time and without end, with sender reports.

All viewers of a phase get the same bytes, so that one process can be as many cameras as a machine can receive.
"""

import asyncio
import base64
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av

CLOCK = 90_000
NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
MTU = 1400
SSRC = 0x1234
REPORT_S = 5.0


@dataclass
class FilmFrame:
    """A frame of the film as RTP payloads."""

    payloads: list[bytes]


@dataclass
class Phase:
    """A camera's place in the film, with the viewers who see it."""

    offset: int
    sequence: int = 0
    viewers: set["Viewer"] = field(default_factory=set)
    reported_at: float = -1e9


@dataclass(eq=False)
class Viewer:
    """A connection."""

    writer: asyncio.StreamWriter
    started: bool = False
    """Whether it has got a sender report, and a key frame."""


def payloads_of(packet: bytes) -> list[bytes]:
    """Splits an access unit with start codes into RTP payloads (RFC 6184, 5.6 and 5.8)."""
    payloads = []
    for unit in units_of(packet):
        if len(unit) <= MTU:
            payloads.append(unit)
            continue
        indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 0x1F
        parts = [unit[at : at + MTU] for at in range(1, len(unit), MTU)]
        for index, part in enumerate(parts):
            header = kind | (0x80 if index == 0 else 0) | (0x40 if index == len(parts) - 1 else 0)
            payloads.append(bytes([indicator, header]) + part)
    return payloads


def units_of(data: bytes) -> Iterator[bytes]:
    """Yields the units between start codes."""
    for part in data.split(b"\0\0\1")[1:]:
        yield part.rstrip(b"\0") if part else part


class RtspCameras:
    """Serves rtsp://127.0.0.1:PORT/NUMBER; the number decides the phase."""

    def __init__(
        self,
        film: Path,
        fps: float,
        phases: int = 1,
        clock_offset: float = 0.0,
        reports: bool = True,
        port: int = 0,
    ) -> None:
        """Takes a transport stream of H.264 without B frames, that begins with a key frame.

        Args:
            film: is sent over and over.
            fps: frames per second.
            phases: how many places in the film the cameras are at, evenly.
            clock_offset: seconds by which the cameras' clocks are ahead.
            reports: whether they send RTCP sender reports.
            port: where they listen; 0 is any that is free.
        """
        with av.open(str(film)) as container:
            packets = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]
            keys = [unit[:1] for unit in units_of(packets[0])]
        assert keys, "the film isn't a stream with start codes"
        self.frames = [FilmFrame(payloads_of(packet)) for packet in packets]
        parameters = [unit for unit in units_of(packets[0]) if unit[0] & 0x1F in (7, 8)]
        self._sprop = ",".join(base64.b64encode(unit).decode() for unit in parameters)
        self._fps = fps
        self._phases = [Phase(round(number * len(packets) / phases)) for number in range(phases)]
        self._clock_offset = clock_offset
        self._reports = reports
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._paused = threading.Event()
        self.port = port
        self.describes = 0
        self.late = 0
        """Frames that were sent late, because this machine was too busy."""
        self._thread = threading.Thread(target=self._run, name="rtsp-cameras", daemon=True)
        self._thread.start()
        assert self._started.wait(30.0)

    def url(self, number: int) -> str:
        """Returns the address of a camera."""
        return f"rtsp://127.0.0.1:{self.port}/{number}"

    @property
    def viewers(self) -> int:
        """How many watch."""
        return sum(len(phase.viewers) for phase in self._phases)

    def pause(self) -> None:
        """Sends nothing more, and answers nobody."""
        self._loop.call_soon_threadsafe(self._paused.wait)

    def close(self) -> None:
        """Ends it."""
        self._paused.set()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1000))
        self.port = server.sockets[0].getsockname()[1]
        sending = self._loop.create_task(self._send_all())
        self._started.set()
        self._loop.run_forever()
        server.close()
        sending.cancel()
        for phase in self._phases:
            for viewer in phase.viewers:
                viewer.writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _send_all(self) -> None:
        began, tick = time.monotonic(), 0
        while True:
            tick += 1
            pause = began + tick / self._fps - time.monotonic()
            self.late += pause < -1 / self._fps
            await asyncio.sleep(max(0.0, pause))
            for phase in self._phases:
                self._send(phase, tick)

    def _send(self, phase: Phase, tick: int) -> None:
        index = (tick + phase.offset) % len(self.frames)
        timestamp = round(tick * CLOCK / self._fps) & 0xFFFFFFFF
        payloads = self.frames[index].payloads
        blob = bytearray()
        for number, payload in enumerate(payloads):
            phase.sequence = (phase.sequence + 1) & 0xFFFF
            marker = 0x80 if number == len(payloads) - 1 else 0
            rtp = struct.pack(">BBHII", 0x80, 96 | marker, phase.sequence, timestamp, SSRC)
            blob += struct.pack(">BBH", 0x24, 0, len(rtp) + len(payload)) + rtp + payload
        report = b""
        now = time.time()
        if self._reports and now - phase.reported_at >= REPORT_S:
            phase.reported_at = now
            report = self._report(now, timestamp)
        for viewer in list(phase.viewers):
            if not viewer.started:
                if index:  # a camera begins with a key frame
                    continue
                viewer.started = True
                if self._reports and not report:
                    viewer.writer.write(self._report(now, timestamp))
            if viewer.writer.transport.get_write_buffer_size() < 4_000_000:
                viewer.writer.write(report + bytes(blob))

    def _report(self, now: float, timestamp: int) -> bytes:
        """Returns a sender report (RFC 3550, 6.4.1)."""
        seconds, fraction = divmod(now + self._clock_offset + NTP_EPOCH, 1)
        report = struct.pack(">BBHIIIIII", 0x80, 200, 6, SSRC, int(seconds), int(fraction * 2**32), timestamp, 0, 0)
        return struct.pack(">BBH", 0x24, 1, len(report)) + report

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer, phase = Viewer(writer), self._phases[0]
        try:
            while True:
                first = await reader.readexactly(1)
                if first == b"$":  # a receiver report
                    _, length = struct.unpack(">BH", await reader.readexactly(3))
                    await reader.readexactly(length)
                    continue
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
                method, url = head.split()[:2]
                sequence = next((line for line in head.split("\r\n") if line.lower().startswith("cseq")), "CSeq: 0")
                number = url.partition("://")[2].partition("/")[2].partition("/")[0]
                phase = self._phases[int(number or 0) % len(self._phases)]
                lines, body = ["RTSP/1.0 200 OK", sequence], ""
                if method == "OPTIONS":
                    lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
                elif method == "DESCRIBE":
                    self.describes += 1
                    body = (
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
                        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
                        f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={self._sprop}\r\n"
                        f"a=framerate:{self._fps:g}\r\na=control:track\r\n"
                    )
                    lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
                elif method == "SETUP":
                    lines += ["Session: 1;timeout=60", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"]
                else:
                    lines.append("Session: 1")
                writer.write("\r\n".join([*lines, "", body]).encode())
                if method == "PLAY":
                    phase.viewers.add(viewer)
                if method == "TEARDOWN":
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            phase.viewers.discard(viewer)
            writer.close()
