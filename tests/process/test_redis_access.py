"""Logins to Redis with a password from a file, also while the file is being replaced."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from process.redis_access import FilePassword, RedisAccess, connection_options
from process.redis_url import parse_redis_url

URL = parse_redis_url("redis://fps@cache")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("secret\n")
    return path


def missing(path: Path) -> None:
    """Removes the file."""
    path.unlink(missing_ok=True)


def folder(path: Path) -> None:
    """Puts something in its place that can't be read."""
    path.unlink()
    path.mkdir()


def half_written(path: Path) -> None:
    """Truncates it, as a writer does before it writes."""
    path.write_bytes(b"")


def binary(path: Path) -> None:
    """Writes bytes that aren't UTF-8."""
    path.write_bytes(b"\xff\xfe\x00secret")


def write(path: Path, password: str) -> None:
    """Repairs it, whatever is in its place."""
    if path.is_dir():
        path.rmdir()
    path.write_text(password)


BROKEN = {missing: "No such file", folder: "Is a directory", half_written: "is empty", binary: "isn't UTF-8"}


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"secret", "secret"), (b"secret\r\n", "secret"), (b"\xef\xbb\xbfsecret\n", "secret"), (b" a b \n", "a b")],
)
def test_the_line_end_is_not_part_of_the_password(file: Path, content: bytes, password: str) -> None:
    """Neither are blanks around it and a byte order mark."""
    file.write_bytes(content)
    assert FilePassword("fps", file).get_credentials() == ("fps", password)
    assert FilePassword("", file).get_credentials() == (password,)


@pytest.mark.parametrize("damage", BROKEN)
async def test_the_last_password_is_kept(
    file: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While the file can't be read, which is logged once with its reason; then the new password is used."""
    login = connection_options(URL, RedisAccess(password_file=file))["credential_provider"]
    assert login.get_credentials() == ("fps", "secret")
    damage(file)
    for _ in range(2):
        assert login.get_credentials() == ("fps", "secret")
        assert await login.get_credentials_async() == ("fps", "secret")
    (record,) = caplog.records
    assert BROKEN[damage] in record.reason  # type: ignore[attr-defined]
    write(file, "rotated")
    assert login.get_credentials() == ("fps", "rotated")
    missing(file)
    login.get_credentials()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("damage", BROKEN)
def test_without_a_password_redis_is_unreachable(file: Path, damage: Callable[[Path], None]) -> None:
    """An error of redis-py, which every caller retries; nothing else ends a program."""
    login = FilePassword("", file)
    damage(file)
    with pytest.raises(redis.ConnectionError, match=BROKEN[damage]):
        login.get_credentials()
    write(file, "secret")
    assert login.get_credentials() == ("secret",)


@pytest.mark.parametrize("damage", BROKEN)
def test_a_file_that_cannot_be_used_is_an_error_at_start(file: Path, damage: Callable[[Path], None]) -> None:
    """The settings name the file and the reason."""
    access = RedisAccess(password_file=file)
    assert access.error(URL) is None
    damage(file)
    assert BROKEN[damage] in str(access.error(URL))


async def test_redis_py_logs_nothing_of_its_own(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its asynchronous login warns about backward compatibility unless the provider overrides it."""
    with caplog.at_level(logging.DEBUG):
        assert await FilePassword("fps", file).get_credentials_async() == ("fps", "secret")
    assert not caplog.records
