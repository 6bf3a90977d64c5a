"""Log lines for people and for collectors."""

import json
import logging
import sys

from process.logs import JsonFormatter, TextFormatter


def record(**extra):
    try:
        raise KeyError("gone")
    except KeyError:
        error = sys.exc_info()
    made = logging.LogRecord("sidecar.toy", logging.WARNING, __file__, 1, "lost %s", ("redis",), error)
    vars(made).update(created=0.25, **extra)
    return made


def test_json_lines_carry_message_fields_and_exception():
    """One line is one JSON object with the extra fields and the traceback in it."""
    line = JsonFormatter().format(record(url="redis://h"))
    assert "\n" not in line
    entry = json.loads(line)
    assert "KeyError" in entry.pop("exception")
    assert entry == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "warning",
        "logger": "sidecar.toy",
        "message": "lost redis",
        "url": "redis://h",
    }


def test_text_lines_carry_the_same():
    """Text shows time, level, logger, message and fields on the first line."""
    first, *rest = TextFormatter().format(record(url="redis://h")).split("\n")
    assert first == "1970-01-01T00:00:00.250+00:00 WARNING sidecar.toy lost redis url='redis://h'"
    assert rest[-1] == "KeyError: 'gone'"
