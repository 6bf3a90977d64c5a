"""The download of the official weights from a real HTTP server: consent, resuming, hashes, safe extraction."""

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from worker.hamer.fetch import LICENCE, OFFICIAL, FetchError, Patience, Release, fetch_hamer

CHECKPOINT = os.urandom(300_000)
CONFIG = b"MODEL: {}\n"


def sha256(content: bytes) -> str:
    """Returns the hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def pack(members: dict[str, bytes], *links: tuple[str, str]) -> bytes:
    """Returns a .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, target in links:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {
    "../../evil": b"evil",
    "/tmp/evil": b"evil",
    "_DATA/large": bytes(100_000),
    "./_DATA/hamer.ckpt": CHECKPOINT,
    "_DATA/model_config.yaml": CONFIG,
    "_DATA/after": b"beyond the last file that is needed",
}


class Server(ThreadingHTTPServer):
    """Serves one archive, with the faults that a test sets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = pack(MEMBERS)
        self.ranges = True
        self.breaks: list[int] = []  # bytes after which the next connections break
        self.errors: list[int] = []  # status codes of the next answers
        self.off = 0  # bytes by which its ranges start too late
        self.requests: list[str | None] = []  # their Range headers


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with ranges."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Logs nothing."""

    def do_GET(self) -> None:
        """Sends the archive or a part of it."""
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        start, total = 0, len(server.archive)
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-")) + server.off
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = start + server.breaks.pop(0) if server.breaks else total
        self.wfile.write(server.archive[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def release(server: Server, **changes: Any) -> Release:
    """Returns the release that the server has."""
    members = (
        ("_DATA/hamer.ckpt", "hamer_ckpts/hamer.ckpt", sha256(CHECKPOINT)),
        ("_DATA/model_config.yaml", "hamer_ckpts/model_config.yaml", sha256(CONFIG)),
    )
    url = f"http://127.0.0.1:{server.server_port}/hamer.tar.gz"
    return Release(**({"url": url, "sha256": sha256(server.archive), "members": members} | changes))


def fetch(folder: Path, what: Release, **options: Any) -> tuple[Path, str]:
    """Downloads without pauses between attempts; returns the path and the output."""
    stream = io.StringIO()
    patience = Patience(timeout=20.0, retries=2, pause=lambda _: None)
    options = {"accept_licence": True, "release": what, "patience": patience} | options
    try:
        path = fetch_hamer(folder, stream=stream, **options)
    finally:
        said = stream.getvalue()
    return path, said


def test_only_the_two_files_are_left(server: Server, tmp_path: Path):
    """The two files are extracted; the archive is deleted, and nothing else of it is extracted."""
    path, said = fetch(tmp_path / "models", release(server))
    assert path == tmp_path / "models/hamer_ckpts/hamer.ckpt"
    assert path.read_bytes() == CHECKPOINT
    assert path.with_name("model_config.yaml").read_bytes() == CONFIG
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["hamer.ckpt", "model_config.yaml"]
    assert "surveillance" in said
    assert "non-commercial" in said


def test_nothing_is_downloaded_twice(server: Server, tmp_path: Path):
    """If the right files are in place, there is no question and no request."""
    fetch(tmp_path, release(server))
    asked = len(server.requests)
    _, said = fetch(tmp_path, release(server), accept_licence=False)
    assert said == ""
    assert len(server.requests) == asked


@pytest.mark.parametrize("answer", ["n", "", "no", "maybe"])
def test_no_consent_no_download(answer: str, server: Server, tmp_path: Path):
    """Any answer but yes ends the command before the first request."""
    with pytest.raises(FetchError, match="weren't accepted"):
        fetch(tmp_path, release(server), accept_licence=False, ask=lambda _: answer)
    assert server.requests == []


def test_the_licences_fit_a_terminal():
    """A terminal of 80 columns shows the lines as they are."""
    text = Text.from_markup(LICENCE).plain
    assert max(map(len, text.splitlines())) <= 80
    assert "surveillance use" in text


def test_consent_by_answer(server: Server, tmp_path: Path):
    """A yes is consent."""
    assert fetch(tmp_path, release(server), accept_licence=False, ask=lambda _: " Y ")[0].is_file()


def test_consent_without_a_terminal(server: Server, tmp_path: Path):
    """If there is nobody to ask, the error names the flag."""
    with pytest.raises(FetchError, match="--accept-licence"):
        fetch(tmp_path, release(server), accept_licence=False, ask=None)
    assert server.requests == []


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path):
    """Each new connection requests the missing bytes only; new bytes reset the count of failures."""
    server.breaks = [10_000] * 5
    assert fetch(tmp_path, release(server))[0].read_bytes() == CHECKPOINT
    assert server.requests == [None] + [f"bytes={n * 10_000}-" for n in range(1, 6)]


def test_a_later_run_continues(server: Server, tmp_path: Path):
    """The next run uses the bytes of an interrupted one."""
    server.breaks = [50_000, 0, 0, 0]
    with pytest.raises(FetchError, match="run the command again to continue after 50,000 bytes"):
        fetch(tmp_path, release(server))
    server.requests.clear()
    server.breaks.clear()
    assert fetch(tmp_path, release(server))[0].read_bytes() == CHECKPOINT
    assert server.requests == ["bytes=50000-"]


def test_servers_without_ranges(server: Server, tmp_path: Path):
    """If the server doesn't support ranges, the download starts over."""
    server.ranges, server.breaks = False, [10_000]
    assert fetch(tmp_path, release(server))[0].read_bytes() == CHECKPOINT


def test_other_ranges_than_requested(server: Server, tmp_path: Path):
    """Bytes that don't continue the partial file are refused before they are appended."""
    server.off, server.breaks = 7, [10_000]
    with pytest.raises(FetchError, match="requested the bytes from 10000, got those from 10007"):
        fetch(tmp_path, release(server))
    assert (tmp_path / "hamer.tar.gz.part").read_bytes() == server.archive[:10_000]


def test_a_complete_part(server: Server, tmp_path: Path):
    """A partial file that has all bytes already is recognised as complete."""
    (tmp_path / "hamer.tar.gz.part").write_bytes(server.archive)
    assert fetch(tmp_path, release(server))[0].read_bytes() == CHECKPOINT
    assert server.requests == [f"bytes={len(server.archive)}-"]


def test_a_part_that_is_too_long(server: Server, tmp_path: Path):
    """A partial file that is longer than the server's is discarded."""
    (tmp_path / "hamer.tar.gz.part").write_bytes(server.archive + b"more")
    assert fetch(tmp_path, release(server))[0].read_bytes() == CHECKPOINT


def test_wrong_bytes_are_deleted(server: Server, tmp_path: Path):
    """An archive with another hash is refused and deleted."""
    (tmp_path / "hamer.tar.gz.part").write_bytes(b"x" * 1000)
    with pytest.raises(FetchError, match="instead of"):
        fetch(tmp_path, release(server))
    assert list(tmp_path.iterdir()) == []


def test_server_errors_are_retried(server: Server, tmp_path: Path):
    """A server's temporary errors are retried, up to a limit."""
    server.errors = [503, 429]
    assert fetch(tmp_path, release(server))[0].is_file()
    (tmp_path / "hamer_ckpts/hamer.ckpt").unlink()
    server.errors = [503] * 3
    with pytest.raises(FetchError, match="503"):
        fetch(tmp_path, release(server))


def test_client_errors_are_final(server: Server, tmp_path: Path):
    """A 404 isn't retried."""
    server.errors = [404]
    with pytest.raises(FetchError, match="404"):
        fetch(tmp_path, release(server))
    assert len(server.requests) == 1


def test_no_server(server: Server, tmp_path: Path):
    """A refused connection is one clear error after a few attempts."""
    what = release(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match="refused"):
        fetch(tmp_path, what)


def test_a_file_with_another_hash_gets_no_name(server: Server, tmp_path: Path):
    """A member with another hash is refused, though the archive's own hash is right."""
    members = (("_DATA/hamer.ckpt", "hamer.ckpt", sha256(b"another")),)
    with pytest.raises(FetchError, match=r"hamer\.ckpt: SHA-256"):
        fetch(tmp_path, release(server, members=members))
    assert not (tmp_path / "hamer.ckpt").exists()
    assert not (tmp_path / "hamer.ckpt.part").exists()


@pytest.mark.parametrize(
    "archive",
    [
        pack({"_DATA/model_config.yaml": CONFIG}),
        pack({"_DATA/model_config.yaml": CONFIG}, ("_DATA/hamer.ckpt", "/etc/passwd")),
    ],
    ids=["missing", "a link"],
)
def test_archives_without_the_file(archive: bytes, server: Server, tmp_path: Path):
    """A file that is missing in the archive, or is a link, is named."""
    server.archive = archive
    with pytest.raises(FetchError, match=r"not in it: _DATA/hamer\.ckpt"):
        fetch(tmp_path, release(server))


@pytest.mark.parametrize("archive", [b"no archive", pack(MEMBERS)[:200_000]], ids=["something else", "cut off"])
def test_damaged_archives(archive: bytes, server: Server, tmp_path: Path):
    """A damaged archive is one clear error."""
    server.archive = archive
    with pytest.raises(FetchError, match=r"hamer\.tar\.gz: damaged"):
        fetch(tmp_path, release(server))


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Too little space is an error before the download, not after hours."""
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(FetchError, match="1,000 are free"):
        fetch(tmp_path, release(server))


def test_a_folder_that_cannot_be_created(server: Server, tmp_path: Path):
    """A folder that can't be created is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="file"):
        fetch(tmp_path / "file" / "models", release(server))


def test_official_release():
    """By default the checkpoint and its config are downloaded, in the layout that the loader expects."""
    names = [target for _, target, _ in OFFICIAL.members]
    assert names == ["hamer_ckpts/checkpoints/hamer.ckpt", "hamer_ckpts/model_config.yaml"]
    assert OFFICIAL.url.startswith("https://")
