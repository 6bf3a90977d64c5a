"""Who sends a live stream in other ways than RTSP: a transport stream over UDP, and a media server that speaks RTMP."""

import io
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av

EVERY_S = 0.005
"""Between two frames: FFmpeg looks at five seconds by their timestamps before it shows the first one."""


def endless(film: Path, out: av.container.OutputContainer, stop: threading.Event) -> Iterator[None]:
    """Adds the frames of a film without B frames to another container, over and over with times that go on, until a stop."""
    with av.open(str(film)) as container:
        video = container.streams.video[0]
        stream = out.add_stream_from_template(video)
        packets = [packet for packet in container.demux(video) if packet.size]
        step = packets[1].dts - packets[0].dts
        number = 0
        while not stop.wait(EVERY_S):
            given = packets[number % len(packets)]
            packet = av.Packet(bytes(given))
            packet.stream, packet.time_base, packet.is_keyframe = stream, given.time_base, given.is_keyframe
            packet.pts = packet.dts = number * step
            out.mux(packet)
            number += 1
            yield


@contextmanager
def udp_sender(film: Path) -> Iterator[str]:
    """Sends a film to a port of this machine as a transport stream; yields the URL under which it is received."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{free.getsockname()[1]}"
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():  # it is refused as long as nobody receives
            with suppress(OSError), av.open(f"{url}?pkt_size=1316", "w", format="mpegts") as out:
                for _ in endless(film, out, stop):
                    pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        stop.set()
        thread.join(10.0)


class RtmpServer:
    """A media server with one live stream, H.264, that anybody may play under any name."""

    def __init__(self, film: Path) -> None:
        self._film = film
        self._stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtmp://127.0.0.1:{self._server.getsockname()[1]}/live/key"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the stream and the server."""
        self._stop.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(10.0)
        self._server.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError, av.FFmpegError):
                connection, _ = self._server.accept()
                with connection:
                    connection.settimeout(10.0)
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        """Shakes hands (RTMP 1.0, 5.2), answers the three commands of a player, and plays."""
        hello = connection.recv(1537, socket.MSG_WAITALL)
        connection.sendall(b"\x03" + bytes(1536) + hello[1:])
        connection.recv(1536, socket.MSG_WAITALL)
        connection.sendall(message(1, struct.pack(">I", 1 << 24)))  # chunks of this size, so that no message is split
        heard = b""
        for command in ("connect", "createStream", "play"):
            while (at := heard.find(amf(command))) < 0 or len(heard) < at + len(amf(command)) + 9:
                if not (part := connection.recv(65536)):
                    return
                heard += part
            transaction = heard[at + len(amf(command)) :][:9]
            if command == "play":
                status = {"level": "status", "code": "NetStream.Play.Start", "description": "now"}
                connection.sendall(message(20, amf("onStatus") + amf(0.0) + amf(None) + amf(status), stream=1))
            else:
                given = amf(1.0) if command == "createStream" else amf({"code": "NetConnection.Connect.Success"})
                connection.sendall(message(20, amf("_result") + transaction + amf(None) + given))
        flv, sent = io.BytesIO(), 13  # behind the header and the size of the tag before the first
        with av.open(flv, "w", format="flv", options={"flush_packets": "1"}) as out:
            for _ in endless(self._film, out, self._stop):
                content = flv.getvalue()
                while len(content) >= sent + 15:
                    kind, size, low, high = struct.unpack(">B3s3sB", content[sent : sent + 8])
                    end = sent + 11 + int.from_bytes(size, "big")
                    time = int.from_bytes(bytes([high]) + low, "big")
                    connection.sendall(message(kind, content[sent + 11 : end], time, stream=1))
                    sent = end + 4


def message(kind: int, content: bytes, time: int = 0, stream: int = 0) -> bytes:
    """Returns a message as one chunk (5.3.1.2.1). Types: 1 the size of chunks, 9 video, 18 data, 20 a command."""
    head = struct.pack(">B3s3sB", 3, time.to_bytes(3, "big"), len(content).to_bytes(3, "big"), kind)
    return head + struct.pack("<I", stream) + content


def amf(value: str | float | dict[str, str] | None) -> bytes:
    """Returns a value in AMF 0."""
    if value is None:
        return b"\x05"
    if isinstance(value, float):
        return b"\x00" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\x02" + struct.pack(">H", len(value)) + value.encode()
    pairs = (struct.pack(">H", len(key)) + key.encode() + amf(each) for key, each in value.items())
    return b"\x03" + b"".join(pairs) + b"\x00\x00\x09"
