"""Log lines for people and for collectors."""

import json
import logging
import math
import os
import subprocess
import sys
from typing import Any

import pytest
from support.processes.programs import repository_environment

from process.logs import JsonFormatter, TextFormatter, foreign_line, silence_grpc


def record(*, failed: bool = False, **fields: Any) -> logging.LogRecord:
    """A warning with fields, logged at a quarter second past 1970, with an exception if something failed."""
    error = None
    if failed:
        try:
            raise KeyError("gone")
        except KeyError:
            error = sys.exc_info()
    made = logging.LogRecord("sidecar.toy", logging.WARNING, __file__, 1, "lost %s", ("redis",), error)
    vars(made).update(created=0.25, **fields)
    return made


def test_json_lines_carry_message_fields_and_exception() -> None:
    """One line is one JSON object with the fields and the traceback in it."""
    line = JsonFormatter().format(record(failed=True, url="redis://h", tries=3))
    assert "\n" not in line
    entry = json.loads(line)
    assert "KeyError" in entry.pop("exception")
    assert entry == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "warning",
        "logger": "sidecar.toy",
        "message": "lost redis",
        "url": "redis://h",
        "tries": 3,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (0.5, 0.5),
        (True, True),
        (None, None),
        (["a", "b"], ["a", "b"]),
        (KeyError("gone"), "'gone'"),
    ],
)
def test_json_is_valid_whatever_a_field_holds(value: object, shown: object) -> None:
    """Values that JSON lacks become strings."""
    line = JsonFormatter().format(record(value=value))
    assert json.loads(line, parse_constant=lambda constant: f"not JSON: {constant}")["value"] == shown


def test_a_field_replaces_no_standard_key() -> None:
    """Collectors rely on time, level, logger and message, so a field of such a name gets another one."""
    entry = json.loads(JsonFormatter().format(record(level=7, logger="x")))
    assert (entry["level"], entry["level_"], entry["logger"], entry["logger_"]) == ("warning", 7, "sidecar.toy", "x")


def test_text_lines_carry_the_same() -> None:
    """Text has time, level, logger, message and fields on the first line, then the traceback."""
    first, *rest = TextFormatter().format(record(failed=True, url="redis://h")).split("\n")
    assert first == "1970-01-01T00:00:00.250+00:00 WARNING sidecar.toy lost redis url=redis://h"
    assert rest[-1] == "KeyError: 'gone'"
    assert TextFormatter().format(record(url="redis://h")) == first


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://h", "redis://h"),
        ("two words", "'two words'"),
        ("a=b", "'a=b'"),
        ("", "''"),
        ("line\nbreak", r"'line\nbreak'"),
        (1 / 3, "0.333333"),
        (math.inf, "inf"),
        (12, "12"),
        (["127.0.0.1:1", "unix:/s"], "127.0.0.1:1,unix:/s"),
        (("a b", 1.5), "'a b',1.5"),
        (KeyError("gone"), "\"'gone'\""),
    ],
)
def test_a_value_is_one_word(value: object, shown: str) -> None:
    """A value can't be taken for another field or another line."""
    assert TextFormatter().format(record(value=value)).endswith(f" lost redis value={shown}")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "info"),
        ("W0000 00:00:1732 file.cc:50] old", "warning"),
        ("E1127 19:21:42 file.cc:50] bad", "error"),
        ("FATAL: bad", "critical"),
        ("Corrupt JPEG data: premature end of data segment", "warning"),
        ("INFORMATION", "warning"),
    ],
)
def test_a_line_of_a_library_has_the_level_that_it_names(line: str, level: str) -> None:
    """Else it is a warning."""
    entry = json.loads(foreign_line(line))
    assert (entry["level"], entry["line"], entry["logger"]) == (level, line, "stderr")
    assert entry.keys() == {"time", "level", "logger", "message", "line"}


@pytest.mark.parametrize(("given", "in_force"), [({}, "NONE"), ({"GRPC_VERBOSITY": "debug"}, "debug")])
def test_grpc_is_silenced_unless_asked(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], in_force: str) -> None:
    """The operator's GRPC_VERBOSITY wins."""
    monkeypatch.setattr(os, "environ", given)
    silence_grpc()
    assert os.environ["GRPC_VERBOSITY"] == in_force


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_the_level_holds_for_the_program_and_grpc_isnt_chatty(level: str) -> None:
    """Records below the level aren't printed; gRPC's debug records never are."""
    code = f"""
import logging
from process import logs
logs.set_up({level!r}, "json")
for logger in (logging.getLogger("sidecar"), logging.getLogger("grpc")):
    for number in (logging.DEBUG, logging.INFO, logging.ERROR):
        logger.log(number, "line")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=repository_environment(), capture_output=True, text=True, timeout=120)
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    expected = {
        "debug": ["sidecar debug", "sidecar info", "sidecar error", "grpc info", "grpc error"],
        "warning": ["sidecar error", "grpc error"],
    }
    assert [f"{entry['logger']} {entry['level']}" for entry in entries] == expected[level]
