"""What all downloads have in common."""

import hashlib
import io
import runpy
import sys
from pathlib import Path

import pytest

from worker import download
from worker.download import WrongDigestError, download_progress, sha256_of, write_checked

CONTENT = bytes(range(256)) * 10_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_a_file_gets_its_name_once_it_is_right(tmp_path: Path) -> None:
    """The right bytes replace what was there, each chunk is reported, and the partial file is gone."""
    target, part, reports = tmp_path / "model", tmp_path / "model.part", []
    target.write_bytes(b"old")
    write_checked(io.BytesIO(CONTENT), target, DIGEST, part=part, report=lambda: reports.append(part.exists()))
    assert target.read_bytes() == CONTENT
    assert sha256_of(target) == DIGEST
    assert reports == [True] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_wrong_bytes_change_nothing(tmp_path: Path) -> None:
    """Other bytes are an error with their digest; the file that was there stays, and the partial file is gone."""
    target = tmp_path / "model"
    target.write_bytes(b"old")
    with pytest.raises(WrongDigestError, match=f"instead of {DIGEST}") as error:
        write_checked(io.BytesIO(b"other"), target, DIGEST, part=tmp_path / "model.part")
    assert error.value.found == hashlib.sha256(b"other").hexdigest()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def lines(*reports: tuple[int, int | None]) -> list[str]:
    """Returns what a log shows of these reports."""
    log = io.StringIO()
    with download_progress(log, "downloading it") as progress:
        for done, total in reports:
            progress(done, total)
    return log.getvalue().splitlines()


@pytest.mark.parametrize(
    ("reports", "shown"),
    [
        ([], []),
        ([(done * 1000, 1_000_000) for done in range(1001)], [f"{mb} of 1.0" for mb in ("0.0", "0.2", "0.5", "0.8", "1.0")]),
        ([(600_000, 1_000_000), (700_000, 1_000_000), (1_000_000, 1_000_000)], ["0.6 of 1.0", "1.0 of 1.0"]),
        ([(0, None), (5_000_000, None)], ["0.0"]),
    ],
    ids=["nothing", "all", "resumed", "without a total"],
)  # fmt: skip
def test_a_log_gets_a_few_lines(reports: list[tuple[int, int | None]], shown: list[str]) -> None:
    """Without a terminal there is a line at the start, at each quarter and at the end; none without a download."""
    assert lines(*reports) == [f"downloading it: {megabytes} MB" for megabytes in shown]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows a bar with the bytes; with NO_COLOR it gets lines, as a log does."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    with download_progress(terminal, "downloading it") as progress:
        progress(500_000, 1_000_000)
        progress(1_000_000, 1_000_000)
    assert "downloading it" in terminal.getvalue()
    assert "1.0/1.0 MB" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    with download_progress(plain, "downloading it") as progress:
        progress(1_000_000, 1_000_000)
    assert plain.getvalue() == "downloading it: 1.0 of 1.0 MB\n"


def test_a_start_without_a_download_needs_no_library_for_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take a tenth of the time of such a start; the first report needs it."""
    for module in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, module, None)
    executed = runpy.run_path(download.__file__)
    with executed["download_progress"](io.StringIO(), "downloading it") as progress, pytest.raises(ImportError):
        progress(0, None)
