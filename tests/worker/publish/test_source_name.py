"""The kinds of sources."""

from pathlib import Path

import pytest

from worker.publish.source_name import Kind, parse_source, read_secret


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", Kind.WEBCAM),
        ("12", Kind.WEBCAM),
        ("/dev/video0", Kind.WEBCAM),
        ("/dev/v4l/by-id/usb-046d-video-index0", Kind.WEBCAM),
        ("/dev/null", Kind.WEBCAM),
        ("cam1-12:30.mp4", Kind.FILM),
        ("rtsp://camera.local/stream", Kind.CAMERA_URL),
        ("rtsps://user:word@camera.local:8322/stream", Kind.CAMERA_URL),
        ("http://camera.local/mjpeg", Kind.HTTP_URL),
        ("https://host/films/film.MP4?token=1", Kind.HTTP_URL),
        ("rtmp://server/app/key", Kind.CAMERA_URL),
        ("srt://server:9000", Kind.CAMERA_URL),
        ("udp://239.1.1.1:5000", Kind.CAMERA_URL),
        ("udp://@239.1.1.1:5000", Kind.CAMERA_URL),
        ("udp://:5000", Kind.CAMERA_URL),
        ("udp://@:5000", Kind.CAMERA_URL),
        ("film.mp4", Kind.FILM),
        ("missing", Kind.FILM),
        ("x" * 5000, Kind.FILM),
        ("nul\0", Kind.FILM),
        ("synthetic:", Kind.SYNTHETIC),
        ("synthetic:fps=15,hands=2", Kind.SYNTHETIC),
    ],
)
def test_kinds(source: str, kind: Kind) -> None:
    """The text determines the kind of a source."""
    assert parse_source(source).kind is kind


def test_an_existing_folder(tmp_path: Path) -> None:
    """The path of an existing folder is a folder of pictures."""
    assert parse_source(str(tmp_path)).kind is Kind.FOLDER


@pytest.mark.parametrize(
    "source",
    ["", "rtp://camera/stream", "rtsp://", "rtsp:///stream", "rtsp://camera:port/x", "rtsp://camera:0/x",
     "rtsp://camera:70000/x", "udp://", "udp://user@:5000", "rtsp://:5000",
     "100", "9" * 5000, "synthetic:fps=0", "synthetic:hands=9"],
)  # fmt: skip
def test_invalid_sources(source: str) -> None:
    """Text that can't be any source is a ValueError."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_source(source)


SECRETS = [
    "rtsp://admin:se%cret@h/x", "rtsp://admin:se/cret@h/x", "rtsp://admin:se#cret@h/x", "rtsp://admin:se?cret@h/x",
    "rtsp://admin:12/secret@h/x", "rtsp://admin:1234#secret@h/x", "rtsp://admin:se@cret@h/x", "rtsp://secret@h/x",
    "rtsp://:secret@h/x", "rtsp://h/x?user=admin&pwd=secret", "http://h/x?token=secret", "http://h/x?a=1#secret",
    "rtsp://h/user=admin_password=secret_channel=1", "http://h/live/secret/x.m3u8", "https://h/films/secret.mp4",
    "rtsp://h;secret/x", "rtsp://admin%3Asecret%40h/x", "rtsp://admin:secret@/x", "rtsp://admin:secret@h:port/x",
    "rtsp://admin:secret@h:99999/x", "rtsp://[admin:secret@h/x", "rtsp://admin:se\u2100cret@h/x", "rtsp://admin:se cret@h/x",
    "rtsp://admin:se\ncret@h/x", "rtsp://admin:se\\cret@h/x", "RTSP://admin:secret@h/x", "rtps://admin:secret@h/x",
    "rtmp://admin:secret@h/x", "rtmp://h/live/secret", "srt://h:1?passphrase=secret", "udp://@:1/secret",
    "rtsp:/admin:secret@h/x", "rtsp:admin:secret", "//admin:secret@h/x", "admin:secret@h/x",
    " rtsp://admin:secret@h/x", "'rtsp://admin:secret@h/x'", "rtsp://[::1]:554/secret", "http://h/x;token=secret",
]  # fmt: skip


@pytest.mark.parametrize("source", SECRETS)
def test_neither_a_name_nor_an_error_repeats_a_secret(source: str) -> None:
    """Whatever the form of a URL, and however it is mistyped, no part of the secret is in the name, repr or error."""
    try:
        parsed = parse_source(source)
    except ValueError as error:
        shown = f"{error} {error.__cause__}"
        assert "://" in shown or "without blanks" in shown
    else:
        shown = f"{parsed.name} {parsed!r}"
    assert not any(part in shown for part in ("secret", "cret", "se%", "se/", "admin")), shown


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://camera.local/", "rtsp://camera.local"),
        ("rtsp://u:p@camera.local:8554/a/b", "rtsp://camera.local:8554/…"),
        ("RTSPS://u:p%40%2F@[fe80::1]:322/a", "rtsps://[fe80::1]:322/…"),
        ("http://cam-1.lan?x=1", "http://cam-1.lan/…"),
        ("http://bücher.example/x", "http://bücher.example/…"),
        ("rtmps://u:p@server/live/key", "rtmps://server/…"),
        ("udp://@239.1.1.1:5000?pkt_size=1316", "udp://239.1.1.1:5000/…"),
        ("udp://@:5000?x=1", "udp://:5000"),
        ("cam1-12:30.mp4", "cam1-12:30.mp4"),
        ("03", "webcam 3"),
    ],
)
def test_names(source: str, name: str) -> None:
    """A URL's name is its scheme, host and port; a file's name is its path."""
    assert parse_source(source).name == name


def test_an_existing_file_is_named_whatever_it_is_called(tmp_path: Path) -> None:
    """Only text that could be a mistyped URL and is no file is withheld."""
    path = tmp_path / "film@home.mp4"
    assert str(path) not in parse_source(str(path)).name
    path.write_bytes(b"")
    assert parse_source(str(path)).name == str(path)


def test_a_password_is_filled_in_escaped() -> None:
    """{PASSWORD} becomes the password with all special characters escaped; without a password it is an error."""
    source = "rtsp://me:{PASSWORD}@camera.local/x"
    assert parse_source(source, "p/#?@% ü").opens == "rtsp://me:p%2F%23%3F%40%25%20%C3%BC@camera.local/x"
    with pytest.raises(ValueError, match="--source-password-file"):
        parse_source(source)


def test_secrets_in_files(tmp_path: Path) -> None:
    """A line break and a byte order mark aren't part of the secret."""
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfp\xc3\xa4ss\r\n")
    assert read_secret(path) == "päss"
