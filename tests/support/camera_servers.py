"""Servers of films and cameras on the loopback, for the tests of the publishers."""

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av

USER, PASSWORD = "me", "se/cret"


class Reply:
    """What an HTTP server answers to each request for one path."""

    def __init__(
        self,
        content: bytes | Callable[[], bytes] = b"",
        *,
        status: int = 200,
        kind: str = "application/octet-stream",
        length: bool = True,
        ranges: bool = False,
        login: str = "",
    ) -> None:
        """Takes the content; whether its length is told, whether parts can be had, and ``Basic`` or ``Digest``."""
        self.content = content
        self.status = status
        self.kind = kind
        self.length = length
        self.ranges = ranges
        self.login = login
        self.requests = 0


@contextmanager
def http_server(replies: dict[str, Reply], host: str = "127.0.0.1") -> Iterator[str]:
    """Serves replies by path; yields the address without a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = replies[self.path.partition("?")[0]]
            reply.requests += 1
            authorization = self.headers.get("Authorization", "")
            if reply.login and not logged_in(authorization, self.command):
                self.send_response(401)
                self.send_header("WWW-Authenticate", challenge(reply.login))
                self.end_headers()
                return
            content = reply.content() if callable(reply.content) else reply.content
            first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if reply.ranges else None
            self.send_response(206 if first else reply.status)
            start = int(first[1]) if first else 0
            if first:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if reply.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", reply.kind)
            self.end_headers()
            try:
                self.wfile.write(content[start:])
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def challenge(login: str) -> str:
    """Returns the value of WWW-Authenticate."""
    return 'Basic realm="camera"' if login == "Basic" else 'Digest realm="camera", nonce="abc", algorithm=MD5'


def logged_in(authorization: str, method: str) -> bool:
    """Checks the value of Authorization (RFC 7617, RFC 2617)."""
    if authorization.startswith("Basic "):
        return authorization == "Basic bWU6c2UvY3JldA=="
    fields = dict(re.findall(r'(\w+)="([^"]*)"', authorization))
    if not authorization.startswith("Digest ") or fields.get("username") != USER:
        return False
    secret, what = md5(f"{USER}:camera:{PASSWORD}"), md5(f"{method}:{fields['uri']}")
    if "qop" in authorization:
        counted = re.search(r"nc=(\w+)", authorization)[1]
        return fields["response"] == md5(f"{secret}:abc:{counted}:{fields['cnonce']}:auth:{what}")
    return fields["response"] == md5(f"{secret}:abc:{what}")


def md5(text: str) -> str:
    """Returns the hexadecimal digest that the protocol demands."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answers every request on a port with the same bytes; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    if stop.is_set():
                        return
                    connection.settimeout(5.0)
                    with suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        yield port
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


class UdpCamera:
    """An RTSP camera that sends RTP over UDP only, and demands a login by digest. One viewer at a time."""

    def __init__(self, film: Path) -> None:
        """Takes a transport stream of H.264, sent once to each viewer."""
        self._film = film
        self._server = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self.port = self._server.getsockname()[1]
        self.methods: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accepts no more viewers."""
        self._stop.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(10.0)
        self._server.close()
        assert not self._thread.is_alive(), "a viewer hasn't left"

    def _serve(self) -> None:
        while not self._stop.is_set():
            connection, _ = self._server.accept()
            with connection, connection.makefile("rb") as requests, suppress(OSError, av.FFmpegError):
                self._serve_one(connection, requests)

    def _serve_one(self, connection: socket.socket, requests) -> None:
        port = 0
        while line := requests.readline().decode().strip():
            method = line.split()[0]
            headers = {}
            while header := requests.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            self.methods.append(method)
            reply, body = [f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}"], ""
            if method != "OPTIONS" and not logged_in(headers.get("authorization", ""), method):
                reply = [
                    f"RTSP/1.0 401 Unauthorized\r\nCSeq: {headers['cseq']}",
                    f"WWW-Authenticate: {challenge('Digest')}",
                ]
            elif method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:streamid=0\r\n"
                )
                reply += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            elif method == "SETUP" and (found := re.search(r"client_port=(\d+)", headers["transport"])):
                port = int(found[1])
                reply += [
                    "Session: 1",
                    f"Transport: RTP/AVP;unicast;client_port={port}-{port + 1};server_port=9000-9001",
                ]
            elif method == "SETUP":
                reply = [f"RTSP/1.0 461 Unsupported Transport\r\nCSeq: {headers['cseq']}"]
            connection.sendall("\r\n".join([*reply, "", body]).encode())
            if method == "PLAY":
                self._send(port)

    def _send(self, port: int) -> None:
        with av.open(str(self._film)) as film, av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp") as rtp:
            out = rtp.add_stream_from_template(film.streams.video[0])
            for packet in film.demux(film.streams.video[0]):
                if packet.size and not self._stop.wait(0.005):
                    packet.stream = out
                    rtp.mux(packet)
