"""Logs on standard error, as text for people or as one JSON object per line for log collectors.

A log call passes values as fields, ``logger.warning("Redis is unreachable", extra={"reason": reason})``, so that the
message is the same text each time and collectors can search by the values.
"""

import contextlib
import datetime
import io
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TextIO

from process.log_wish import wishes_json

logger = logging.getLogger(__name__)

LogFormat = Literal["text", "json"]

STDERR: Final = "stderr"
"""The logger of what others write to standard error."""
_SEVERITY: Final = re.compile(r"(DEBUG|INFO|WARNING|ERROR|FATAL)\b|[DIWEF]\d{4} ")
"""How many libraries begin a line, those of Google with one letter and the date."""
_LEVELS: Final = {"D": "debug", "I": "info", "W": "warning", "E": "error", "F": "critical"}
FOREIGN_LINE: Final = "a line on standard error"
UNEXPECTED: Final = "unexpected failure"

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of each log record, which are therefore no fields."""


def silence_grpc() -> None:
    """Turns off what gRPC itself writes to standard error, unless GRPC_VERBOSITY is set. Call it before gRPC is imported.

    Those lines aren't part of the log: there is one for each client that connects without TLS, and they are never JSON.
    The programs log themselves what fails.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def prepare(words: Sequence[str], variables: Mapping[str, str], prefix: str) -> None:
    """Sets up the log if it is to be JSON, so that what is said before the settings are read is JSON too.

    Args:
        words: the arguments of the program.
        variables: the environment.
        prefix: that of the program's variables.
    """
    if wishes_json(words, variables, prefix):
        set_up("info", "json")


def in_json() -> bool:
    """Returns whether what is written to standard error becomes JSON."""
    return isinstance(sys.stderr, _Lines)


def set_up(level: str, log_format: LogFormat) -> None:
    """Sends all log records from this level on to standard error.

    In JSON, whatever else Python writes there becomes log lines too: texts, warnings, and exceptions that nobody caught. A log
    that was redirected stays so.
    """
    if isinstance(sys.stderr, _Lines):
        sys.stderr = sys.stderr.replaced
    before = [each for each in logging.getLogger().handlers if isinstance(each, LogHandler) and each.redirected]
    stream = before[0].stream if before else sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - None: it is closed
    handler = LogHandler(stream)
    handler.redirected = bool(before)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if log_format == "json" and sys.stderr is not None:
        _replace_stderr()
    # At debug level gRPC logs a line per call, which would hide the program's own lines.
    logging.getLogger("grpc").setLevel(max(logging.INFO, logging.getLogger().level))


def redirect(stream: TextIO) -> None:
    """Sends the log to another stream from now on, also if it is set up again."""
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each, LogHandler))
    handler.setStream(stream)
    handler.redirected = True


def foreign_line(text: str) -> str:
    """Returns a line of JSON about a line that somebody else wrote to standard error."""
    said = _SEVERITY.match(text)
    level = _LEVELS[said[0][0]] if said else "warning"
    entry = {"time": _now(), "level": level, "logger": STDERR, "message": FOREIGN_LINE, "line": text}
    return json.dumps(entry) + "\n"


def _replace_stderr() -> None:
    sys.stderr = _Lines(sys.stderr)
    sys.excepthook = lambda kind, error, trace: logger.critical(UNEXPECTED, exc_info=(kind, error, trace))
    threading.excepthook = lambda failed: logger.critical(
        UNEXPECTED, exc_info=failed.exc_value, extra={"thread_name": failed.thread.name if failed.thread else ""}
    )
    sys.unraisablehook = lambda failed: logger.error(
        UNEXPECTED, exc_info=failed.exc_value, extra={"object": repr(failed.object)}
    )
    logging.captureWarnings(True)


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes log lines. A failure to do so leaves at most one line, and reports nothing to a stream that leads back here."""

    redirected = False
    """Whether its stream isn't standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Is called when a record couldn't be written."""
        if isinstance(self.formatter, JsonFormatter):
            error = sys.exception()
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(foreign_line(f"a log line of {record.name} can't be written: {error!r}"))
        else:
            super().handleError(record)


class _Lines(io.TextIOBase):
    """In place of sys.stderr: each line that is written becomes a log line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.replaced = stream
        self._rest = ""
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream which it replaces."""
        return self.replaced.encoding

    def fileno(self) -> int:
        """Returns the descriptor of the stream which it replaces."""
        return self.replaced.fileno()

    def write(self, text: str) -> int:
        """Logs the lines that are complete."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def close(self) -> None:
        """Logs what is left; the stream itself stays open."""
        with self._lock:
            line, self._rest = self._rest, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line.strip():
            logging.getLogger(STDERR).error(FOREIGN_LINE, extra={"line": line.strip()})


def warn_of_unknown(variables: Mapping[str, str]) -> None:
    """Logs environment variables that no setting has: by name, the most similar name, or an empty text."""
    for variable, similar in variables.items():
        fields = {"variable": variable} | ({"did_you_mean": similar} if similar else {})
        logger.warning("no setting has this environment variable", extra=fields)


class TextFormatter(logging.Formatter):
    """One line of time, level, logger, message and fields as name=value; the traceback of an exception follows."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text of a record."""
        words = [_time(record), record.levelname, record.name, record.getMessage()]
        words += [f"{name}={_word(value)}" for name, value in _fields(record)]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the fields, and the traceback as exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the JSON of a record."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record):
            in_json = not isinstance(value, float) or math.isfinite(value)  # JSON lacks infinity and NaN
            entry[f"{name}_" if name in entry else name] = value if in_json else str(value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in vars(record).items() if name not in _STANDARD)


def _time(record: logging.LogRecord) -> str:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _word(value: object) -> str:
    """Returns a value as one word; quoted if its text has spaces, quotes or other characters that would confuse."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ",".join(map(_word, value))
    text = str(value)
    return text if text.isprintable() and not set(text) & set(" '\"=,") and text else repr(text)
