"""Results as lines of JSON."""

import json
import os
from pathlib import Path

import pytest
from support.results import counted, numbered

from worker.sinks.jsonl import JsonlFile, JsonlOutput
from worker.sinks.sink import RejectedError, SinkError


def entry_ids(path: Path) -> list[str]:
    """The ids in a file, in order."""
    return [json.loads(line)["entry_id"] for line in path.read_text().splitlines()]


def test_results_are_appended(tmp_path: Path) -> None:
    """Also after a restart, and in a folder that doesn't exist yet."""
    path = tmp_path / "new" / "results.jsonl"
    for number in (1, 2):
        sink = JsonlFile(path)
        sink.write([counted(number)])
        sink.close()
    assert entry_ids(path) == ["1-0", "2-0"]


def test_a_file_is_rotated_by_its_size(tmp_path: Path) -> None:
    """No line is split or lost, except by the bound on files."""
    path, size = tmp_path / "results.jsonl", len(counted(10).result) + 1
    sink = JsonlFile(path, most_bytes=3 * size, kept=2)
    sink.write([counted(number) for number in range(10, 21)])
    sink.close()
    assert entry_ids(path) == ["19-0", "20-0"]
    assert entry_ids(tmp_path / "results.jsonl.1") == ["16-0", "17-0", "18-0"]
    assert entry_ids(tmp_path / "results.jsonl.2") == ["13-0", "14-0", "15-0"]
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_need_be_kept(tmp_path: Path) -> None:
    """Then the file begins anew."""
    path = tmp_path / "results.jsonl"
    sink = JsonlFile(path, most_bytes=2 * len(counted(1).result) + 2, kept=0)
    sink.write(numbered(5))
    sink.close()
    assert entry_ids(path) == ["5-0"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Until it can."""
    path = tmp_path / "results.jsonl"
    path.mkdir()
    sink = JsonlFile(path)
    with pytest.raises(SinkError, match="directory"):
        sink.write([counted()])
    path.rmdir()
    sink.write([counted()])
    sink.close()
    assert entry_ids(path) == ["1-0"]


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial write is taken back."""
    path = tmp_path / "results.jsonl"
    sink = JsonlFile(path)
    sink.write([counted(1)])
    file = sink._opened()

    class Full:
        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            return os.write(file.fileno(), data[:5])

    monkeypatch.setattr(sink, "_file", Full())
    with pytest.raises(SinkError, match="space"):
        sink.write([counted(2)])
    sink.write([counted(2)])
    sink.close()
    assert entry_ids(path) == ["1-0", "2-0"]


def test_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is closed, results are rejected."""
    sink = JsonlOutput()
    sink.write(numbered(2))
    assert [json.loads(line)["entry_id"] for line in capsys.readouterr().out.splitlines()] == ["1-0", "2-0"]
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises((RejectedError, AttributeError)):
        sink.write(numbered(1))
    sink.close()
