"""Logs on standard error, as text for people or as one JSON object per line for log collectors.

A log call passes values as fields, ``logger.warning("Redis is unreachable", extra={"reason": reason})``, so that the
message is the same text each time and collectors can search by the values.
"""

import datetime
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Literal

logger = logging.getLogger(__name__)

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of each log record, which are therefore no fields."""


def silence_grpc() -> None:
    """Turns off what gRPC itself writes to standard error, unless GRPC_VERBOSITY is set. Call it before gRPC is imported.

    Those lines aren't part of the log: there is one for each client that connects without TLS, and they are never JSON.
    The programs log themselves what fails.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def set_up(level: str, log_format: LogFormat) -> None:
    """Sends all log records from this level on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At debug level gRPC logs a line per call, which would hide the program's own lines.
    logging.getLogger("grpc").setLevel(max(logging.INFO, logging.getLogger().level))


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


def _word(value: object) -> str:
    """Returns a value as one word; quoted if its text has spaces, quotes or other characters that would confuse."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ",".join(map(_word, value))
    text = str(value)
    return text if text.isprintable() and not set(text) & set(" '\"=,") and text else repr(text)
