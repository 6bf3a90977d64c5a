"""Which fields of the hash set a limit, and what --check says about the others."""

from typing import Any

import pytest

from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url
from sidecar import check as check_module
from sidecar.check import check, field_error


@pytest.mark.parametrize(
    ("field", "value"), [(b"cam1", b"0.25"), (b"*", b"inf"), ("café".encode(), b" 0 "), (b"a" * 256, b"1")]
)
def test_a_valid_field_has_no_error(field: bytes, value: bytes) -> None:
    """A name that a stream can have, or the wildcard, with a valid fps."""
    assert field_error(field, value) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (b"cam1", b"fast", ["cam1", "'fast'"]),
        (b"cam1", b"", ["cam1", "''"]),
        (b"*", b"-1", ["*", "'-1'"]),
        (b"cam\n1", b"nan", ["cam\\n1"]),
        (b"cam1", b"\xff", ["xff"]),
        (b"", b"1", ["stream_name"]),
        (b"a" * 257, b"1", ["aaa", "256"]),
        (b"\xff", b"1", ["xff", "UTF-8"]),
    ],
)
def test_an_invalid_field_is_shown_with_its_value(field: bytes, value: bytes, words: list[str]) -> None:
    """An invalid fps, or a name that no stream can have, is one line that shows it."""
    error = field_error(field, value)
    assert error is not None
    assert "\n" not in error
    assert [word for word in words if word not in error] == []


class Pages:
    """A connection that answers HSCAN with these pages."""

    def __init__(self, *pages: list[bytes] | Exception) -> None:
        self._pages = list(pages)
        self.commands: list[tuple[object, ...]] = []
        self.is_open = True

    async def send_command(self, *command: object) -> None:
        self.commands.append(command)

    async def read_response(self) -> Any:
        page = self._pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return (b"7" if self._pages else b"0"), page

    async def disconnect(self, nowait: bool) -> None:
        assert nowait
        self.is_open = False


async def run(monkeypatch: pytest.MonkeyPatch, pages: Pages) -> int:
    """Checks a hash with these pages, at a default of 1 fps; returns the exit code."""

    class Servers:
        def __init__(self, *_: object) -> None:
            pass

        async def connect_to(self, key: str) -> Pages:
            assert key == "limits"
            return pages

    monkeypatch.setattr(check_module, "RedisServers", Servers)
    code = await check(parse_redis_url("redis://:secret@h"), RedisAccess(), "limits", 1.0)
    assert not pages.is_open
    return code


async def test_all_pages_are_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Redis gives the hash in pages and may repeat a field; the summary counts each field once."""
    pages = Pages([b"cam1", b"1", b"*", b"4"], [], [b"cam1", b"1", b"cam2", b"2"])
    assert await run(monkeypatch, pages) == 0
    assert capsys.readouterr() == (
        "limits at redis://:***@h:6379/0: 3 fields, 0 invalid; all other streams: 4 (*)\n",
        "",
    )
    assert [command[2] for command in pages.commands] == ["0", b"7", b"7"]


async def test_invalid_fields_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a line, in the order of the names, before the summary; the exit code is 1."""
    assert await run(monkeypatch, Pages([b"z", b"fast", b"a", b"-1", b"*", b"x"])) == 1
    *lines, summary = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["'*'", "'a'", "'z'"]
    assert summary.endswith("3 fields, 3 invalid; all other streams: --fps 1")


@pytest.mark.parametrize(("error", "words"), [(OSError("lost"), "lost"), (TimeoutError(), "TimeoutError")])
async def test_a_hash_that_cant_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    """It names the key, the server without its password, and the reason."""
    assert await run(monkeypatch, Pages([b"cam1", b"1"], error)) == 1
    assert capsys.readouterr() == ("", f"fps-sidecar: can't read limits at redis://:***@h:6379/0: {words}\n")
