"""Logs to standard error, as text for people or as one JSON object per line for collectors."""

import datetime
import json
import logging
import os
import sys
from typing import Literal

LogFormat = Literal["text", "json"]

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def silence_grpc() -> None:
    """Turns gRPC's own lines on standard error off, unless GRPC_VERBOSITY is set. To be called before gRPC is imported.

    They are no log of ours: one for each stranger who speaks no TLS, and never JSON. What fails, the programs log themselves.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def set_up(level: str, log_format: LogFormat) -> None:
    """Sends all logs of this level and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At debug gRPC writes a line per call, in which those of this program would drown.
    logging.getLogger("grpc").setLevel(max(logging.INFO, logging.getLogger().level))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


def _time(record: logging.LogRecord) -> str:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, then the fields given by ``extra`` as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Gives the line."""
        words = [_time(record), record.levelname, record.name, record.getMessage()]
        words += [f"{name}={value!r}" for name, value in _fields(record).items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the fields given by ``extra``, the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Gives the line."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
