"""Which fields of the hash set a limit, and what --check says about the others."""

import pytest
from support.processes.ports import free_port
from support.redis.scripted import scripted_redis

from process.redis_access import RedisAccess
from process.redis_url import parse_redis_url
from sidecar.check import check, doubts, field_error


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
        (b"cam1\r", b"1", ["no stream can have", "cam1\\r", "control characters"]),
        (b"cam1 ", b"1", ["no stream can have", "'cam1 '", "blanks"]),
        (b"cam1", b"1e-400", ["'1e-400'"]),
    ],
)
def test_an_invalid_field_is_shown_with_its_value(field: bytes, value: bytes, words: list[str]) -> None:
    """An invalid fps, or a name that no stream can have, is one line that shows it."""
    error = field_error(field, value)
    assert error is not None
    assert "\n" not in error
    assert [word for word in words if word not in error] == []


class Pages:
    """A server that answers HSCAN with these pages, or with an error; patterns and boosts have one page each."""

    def __init__(self, *pages: list[bytes] | bytes, **small: list[bytes]) -> None:
        self._pages = list(pages)
        self._small = small
        self.cursors: list[bytes] = []

    def answer(self, words: list[bytes]) -> bytes:
        """The answer to a command."""
        assert words[0] == b"HSCAN"
        if words[1] != b"limits":
            fields = self._small.get(words[1].decode().removeprefix("limits:"), [])
            return b"*2\r\n$1\r\n0\r\n" + _array(fields)
        self.cursors.append(words[2])
        page = self._pages.pop(0)
        if isinstance(page, bytes):
            return page
        cursor = b"7" if self._pages else b"0"
        return b"*2\r\n$1\r\n%s\r\n%s" % (cursor, _array(page))


def _array(words: list[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(words), b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))


async def run(pages: Pages) -> tuple[int, str]:
    """Checks a hash with these pages, at a default of 1 fps; returns the exit code and where the server is."""
    async with scripted_redis(pages.answer) as server:
        url = parse_redis_url(f"redis://127.0.0.1:{server.port}/0")
        return await check(url, RedisAccess(), "limits", 1.0), url.shown


async def test_all_pages_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Redis returns the hash in pages and may repeat a field; the summary counts each field once."""
    pages = Pages([b"cam1", b"1", b"*", b"4"], [], [b"cam1", b"1", b"cam2", b"2"])
    code, shown = await run(pages)
    assert code == 0
    assert capsys.readouterr() == (f"limits at {shown}: 3 fields, 0 invalid; all other streams: 4 (*)\n", "")
    assert pages.cursors == [b"0", b"7", b"7"]


async def test_invalid_fields_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a line, in the order of the names, before the summary; the exit code is 1."""
    code, _ = await run(Pages([b"z", b"fast", b"a", b"-1", b"*", b"x"]))
    assert code == 1
    *lines, summary = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["'*'", "'a'", "'z'"]
    assert summary.endswith("3 fields, 3 invalid; all other streams: --fps 1")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"-WRONGTYPE not a hash\r\n", "WRONGTYPE not a hash (delete the key or change --config-key)"),
        (
            b"-NOPERM no\r\n",
            "NOPERM no (log in as a user with the permissions in docs/redis-acl.md; each program has a user ",
        ),
    ],
)
async def test_a_rejected_reading_is_one_line(capsys: pytest.CaptureFixture[str], answer: bytes, reason: str) -> None:
    """It names the key, the server and the error, and what to do where that is known."""
    code, shown = await run(Pages([b"cam1", b"1"], answer))
    assert code == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"fps-sidecar: can't read limits at {shown}: {reason}")
    assert errors.count("\n") == 1


async def test_a_missing_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It names the server without its password, and the reason."""
    url = parse_redis_url(f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert await check(url, RedisAccess(), "limits", 1.0) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"fps-sidecar: can't read limits at {url.shown}: ")
    assert errors.count("\n") == 1
    assert "secret" not in errors


def test_names_that_look_alike_and_fields_without_a_stream_are_listed() -> None:
    """Twins among the fields, or of a field and a stream; without a running sidecar only the former."""
    fields = ["*", "Cam1", "cam1", "cam2", "cam 3", "door"]
    twins = "names that look alike, but are different streams: "
    assert doubts(fields, fields, None) == [f"{twins}'Cam1', 'cam1'"]
    assert doubts(fields, fields, {"cam1", "cam2", "cam3", "Other", "other"}) == [
        "'Cam1': no stream of the running sidecar has this name",
        "'cam 3': no stream of the running sidecar has this name",
        "'door': no stream of the running sidecar has this name",
        f"{twins}'Cam1', 'cam1'",
        f"{twins}'cam 3', 'cam3'",
    ]
    assert doubts(["cam1", "cam1 "], ["cam1"], {"cam1"}) == [f"{twins}'cam1', 'cam1 '"]
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert doubts([composed, decomposed], [], None) == [f"{twins}{decomposed!r}, {composed!r}"]


async def test_doubts_are_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """They are listed before the summary, and the exit code is 0."""
    pages = Pages([b"cam1", b"1", b"Cam1", b"4"])
    async with scripted_redis(pages.answer) as server:
        url = parse_redis_url(f"redis://127.0.0.1:{server.port}/0")
        assert await check(url, RedisAccess(), "limits", 1.0, {"cam1"}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "2 fields, 0 invalid" in lines[-1]


async def test_patterns_and_boosts_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Their values, their names, and patterns that were put among the streams' fields."""
    pages = Pages(
        [b"cam1", b"1", b"floor1-*", b"2", b"*", b"3"],
        patterns=[b"floor1-*", b"2", b"floor2-*", b"two", b"yard ", b"1"],
        boosts=[b"cam1", b"5 1700000000", b"cam2", b"5"],
    )
    code, shown = await run(pages)
    assert code == 1
    assert capsys.readouterr().out.splitlines() == [
        "pattern 'floor2-*': 'two' isn't a valid fps, so it is ignored",
        "pattern 'yard ' is refused: a pattern must not begin or end with blanks, got 'yard '",
        "boost of 'cam2': '5' isn't a valid FPS and UNIX SECONDS, so it is ignored",
        "'floor1-*' looks like a pattern, but is the field of the one stream of this name; patterns belong in limits:patterns",
        f"limits at {shown}: 3 fields, 0 invalid; 3 patterns and 2 boosts, 3 ignored; all other streams: 3 (*)",
    ]
