"""Why a source can't be opened, and what to try."""

import os
import socket
from pathlib import Path

import av
import pytest
from support.camera_servers import Reply, answering, http_server
from support.publishing import h264

from worker.publish.capture import open_capture
from worker.publish.failure import unresolved, why_ended, why_no_webcam
from worker.publish.options import Reception
from worker.publish.source import SourceError

PATIENT = Reception(timeout=20.0)
IMPATIENT = Reception(timeout=0.3)


def complaint(opens: str, reception: Reception = PATIENT) -> str:
    """Returns why this can't be opened; checks that the text repeats neither passwords nor paths."""
    with pytest.raises(SourceError) as raised:
        open_capture(opens, "door", reception)
    said = str(raised.value)
    assert said.startswith(("door can't be opened: ", "door: "))
    assert "secret" not in said
    assert raised.value.__cause__ is None
    return said


@pytest.mark.parametrize(
    ("scheme", "login", "answer", "reason"),
    [
        ("http", "", b"HTTP/1.1 401 Unauthorized", "asks for a password (401); write it into the URL"),
        ("http", "me:secret@", b"HTTP/1.1 401 Unauthorized", "refuses the user or the password (401); check both"),
        ("rtsp", "me:se%2Fcret@", b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1", "refuses the user or the password"),
        ("rtsp", "", b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1", "asks for a password"),
        ("rtsp", "", b"RTSP/1.0 404 Not Found\r\nCSeq: 1", "nothing at this path (404); check the path"),
        ("http", "", b"HTTP/1.1 404 Not Found", "nothing at this path"),
        ("http", "", b"HTTP/1.0 403 Forbidden", "forbids the access (403)"),
        ("http", "", b"HTTP/1.0 429 Slow down", "too many requests (429); ask less often"),
        ("http", "", b"HTTP/1.0 410 Gone", "doesn't accept the request"),
        ("http", "", b"HTTP/1.0 503 Busy", "has an error (status 5xx)"),
        ("rtsp", "", b"RTSP/1.0 461 Unsupported\r\nCSeq: 1", "doesn't accept the request"),
        ("rtsp", "", b"SSH-2.0-OpenSSH_9.6", "the answer isn't a camera's; check the port"),
        ("http", "", b"HTTP/1.0 200 OK\r\n\r\n<html>login</html>", "isn't a video that can be read; check the path"),
    ],
)
def test_answers(scheme: str, login: str, answer: bytes, reason: str) -> None:
    """Each answer has its own sentence."""
    with answering(answer + b"\r\n\r\n") as port:
        assert reason in complaint(f"{scheme}://{login}127.0.0.1:{port}/secret?token=secret")


def test_hosts() -> None:
    """An unknown host, a refused connection and a silent host differ."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for scheme in ("rtsp", "http", "rtmp"):
            said = complaint(f"{scheme}://127.0.0.1:{port}/secret", IMPATIENT)
            assert f"127.0.0.1 doesn't answer on port {port} within 0.3 s" in said
    for scheme in ("rtsp", "http", "rtmp", "https"):
        said = complaint(f"{scheme}://127.0.0.1:{port}/secret")
        assert (
            f"127.0.0.1 refuses connections to port {port}; check the port, and that the camera's {scheme} is on"
            in said
        )
    assert "the host camera.invalid is unknown; check its name" in complaint("rtsp://camera.invalid/secret")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), "can't be looked up now"),
        (socket.gaierror(socket.EAI_NONAME, "none"), "the host camera.local is unknown"),
        (UnicodeError("label too long"), "the host camera.local is unknown"),
        (None, None),
    ],
)
def test_names(error: Exception | None, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that doesn't exist and a DNS server that doesn't answer differ."""

    def look_up(*_: object) -> list[object]:
        if error:
            raise error
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    said = unresolved("rtsp://me:secret@camera.local/x")
    assert said is reason is None or (said and reason and reason in said)
    assert unresolved("udp://:5000") is None


def test_a_connection_that_is_closed() -> None:
    """A camera with too many viewers often accepts a connection and closes it."""
    with answering(b"") as port:
        assert "the camera closes the connection; it may have too many viewers" in complaint(
            f"rtsp://127.0.0.1:{port}/x"
        )


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_no_tls(scheme: str) -> None:
    """A server without TLS is told from one that refuses."""
    with answering(b"HTTP/1.0 400 Bad Request\r\n\r\n") as port:
        said = complaint(f"{scheme}://127.0.0.1:{port}/secret", Reception(timeout=3.0))
        assert f"127.0.0.1 doesn't speak TLS on port {port}; try {scheme[:-1]}://" in said


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("srt://127.0.0.1:9999", "the installed FFmpeg can't receive srt://; have a gateway turn it into RTSP"),
        ("udp://127.0.0.1:PORT", "nothing arrives within 0.3 s; check that the sender sends to this address and port"),
    ],
)
def test_other_protocols(url: str, reason: str) -> None:
    """What can't be received is named."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert reason in complaint(url.replace("PORT", str(port)), IMPATIENT)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A sound."""
    path = tmp_path / "sound.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3", rate=44100)
        frame = av.AudioFrame(format="s16p", layout="stereo", samples=11520)
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_no_video(audio: Path) -> None:
    """A film without video says what is in it, also from a server."""
    assert "there is no video in it, only audio" in complaint(f"file:{audio}")
    with http_server({"/sound.mp3": Reply(audio.read_bytes())}) as base:
        assert "there is no video in it, only audio" in complaint(f"{base}/sound.mp3")


def test_no_decoder(tmp_path: Path) -> None:
    """A codec that FFmpeg doesn't know is told from damaged data."""
    path = h264(tmp_path / "film.mp4", [0.0, 0.1])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert "there is no decoder for its codec; have the camera send H.264" in complaint(f"file:{path}")


@pytest.mark.parametrize("content", [b"", b"not a film" * 100])
def test_a_file_that_is_not_a_film(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """The libraries print nothing."""
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert "it can't be read as a video: the format isn't supported, or it is damaged or empty" in complaint(
        f"file:{path}"
    )
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """The reason is the permission."""
    path = h264(tmp_path / "film.mp4", [0.0, 0.1])
    path.chmod(0)
    assert "permission denied" in complaint(f"file:{path}")


def test_a_missing_file() -> None:
    """The system's reason is given."""
    assert "No such file or directory" in complaint("file:/nowhere/x.mp4")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "it sends no more frames"),
        (av.error.EOFError(0, "x"), "it sends no more frames"),
        (av.error.ExitError(0, "x"), "nothing has arrived for 3 s"),
        (TimeoutError(), "nothing has arrived for 3 s"),
        (av.error.InvalidDataError(0, "x"), "what arrives is damaged"),
        (
            ConnectionResetError(104, "Connection reset by peer", "rtsp://me:secret@h"),
            "no more frames: Connection reset by peer",
        ),
        (RuntimeError("secret"), "it sends no more frames: RuntimeError"),
    ],
)
def test_ends(error: BaseException | None, reason: str) -> None:
    """Silence, damage and a lost connection differ."""
    said = why_ended(error, 3.0)
    assert reason in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file"), "this machine has no /dev/video3; `ls /dev/video*"),
        (PermissionError(13, "Permission denied"), "has to be in its group, which is usually video"),
        (OSError(16, "Busy"), "another program uses /dev/video3"),
        (OSError(25, "Inappropriate ioctl"), "isn't a camera that captures pictures"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_webcams(error: OSError, reason: str) -> None:
    """What may be wrong with a camera of this machine, and what to try."""
    assert reason in why_no_webcam(error, "/dev/video3")
