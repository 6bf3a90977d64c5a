from pathlib import Path

import pytest

from console.web.access.token_file import EVERY_S, KEPT_S, MIN_TOKEN, TokenFile, tokens_in

OLD, NEW = "o" * MIN_TOKEN, "n" * MIN_TOKEN


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def test_each_line_is_a_token():
    assert tokens_in(f"\ufeff{OLD}"[1:] + f"\r\n\n  {NEW} \n") == (OLD, NEW)
    assert tokens_in("\n") == ()


def test_a_replaced_file_is_read_within_a_second(tmp_path: Path, now: list[float]):
    path = tmp_path / "token"
    path.write_text(OLD)
    tokens = TokenFile(path, lambda: now[0])
    assert tokens() == (OLD,)
    path.write_text(f"{OLD}\n{NEW}\n")
    assert tokens() == (OLD,), "it isn't read for each request"
    now[0] += EVERY_S
    assert tokens() == (OLD, NEW)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"half", b"\xff" * 20])
def test_a_file_without_a_token_keeps_the_last_ones_for_a_moment(
    tmp_path: Path, now: list[float], content: bytes | None
):
    path = tmp_path / "token"
    path.write_text(OLD)
    tokens = TokenFile(path, lambda: now[0])
    assert tokens() == (OLD,)
    path.unlink() if content is None else path.write_bytes(content)
    now[0] += KEPT_S - EVERY_S
    assert tokens() == (OLD,)
    now[0] += EVERY_S
    assert tokens() == ()
    path.write_text(NEW)
    now[0] += EVERY_S
    assert tokens() == (NEW,)
