"""Results in a database, by SQLAlchemy: SQLite or PostgreSQL.

The schema comes from numbered files in worker/sinks/migrations, each executed once and in one transaction; the table
hand_counter_schema notes the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from worker.queue.delivery import Counted
from worker.sinks.sink import RejectedError, SinkError

MIGRATIONS = Path(__file__).parent / "migrations"

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
DIALECTS = tuple(_INSERT)

_TIMEOUT = {"sqlite": {"timeout": 10}, "postgresql": {"connect_timeout": 10}}

_RESULTS = sa.table(
    "hand_counter_results",
    *map(
        sa.column,
        ("queue", "entry_id", "stream_name", "ts", "hand_count", "width", "height", "age", "counted_at", "result"),
    ),
)


class SqlSink:
    """Inserts into one table."""

    def __init__(self, url: sa.URL, queue: str, now: Callable[[], float] = time.time) -> None:
        """Takes the URL, and the name of the queue, within which the ids of entries are unique."""
        dialect = url.get_backend_name()
        # Errors would repeat the parameters, and results don't belong in the log.
        self._engine = sa.create_engine(
            url, hide_parameters=True, pool_pre_ping=True, connect_args=_TIMEOUT[dialect], pool_recycle=3600
        )
        self._insert = _INSERT[dialect]
        self._queue = queue
        self._now = now
        self._migrated = False

    def write(self, results: Sequence[Counted]) -> None:
        """Inserts the results in one transaction; those that are there already stay.

        If the database rejects one, each is inserted in a transaction of its own, so that the others are kept.
        """
        now = self._now()
        self._migrate()
        reason = self._insert_rows(results, now)
        if not reason:
            return
        rejected = [result for result in results if len(results) == 1 or self._insert_rows([result], now)]
        if rejected:
            whole = len(rejected) == len(results)
            raise RejectedError(f"the database rejected results: {reason}", None if whole else rejected)

    def _insert_rows(self, results: Sequence[Counted], now: float) -> str:
        """Inserts rows in one transaction; returns why the database rejected one, empty if it didn't. Raises SinkError."""
        try:
            with self._engine.begin() as connection:
                rows = [self._row(result, now) for result in results]
                connection.execute(self._insert(_RESULTS).on_conflict_do_nothing(), rows)
        except (DataError, IntegrityError) as error:
            return _reason(error)
        except (OverflowError, ValueError) as error:  # of the driver
            return type(error).__name__
        except SQLAlchemyError as error:
            raise SinkError(f"the database failed: {_reason(error)}") from None
        return ""

    def _row(self, result: Counted, now: float) -> dict[str, object]:
        return {
            "queue": self._queue,
            "entry_id": result.entry_id,
            "stream_name": result.stream_name,
            "ts": result.ts,
            "hand_count": result.hand_count,
            "width": result.width,
            "height": result.height,
            "age": result.age,
            "counted_at": now,
            "result": result.result,
        }

    def _migrate(self) -> None:
        if self._migrated:
            return
        try:
            migrate(self._engine)
        except SQLAlchemyError as error:
            raise SinkError(f"the database's schema can't be brought up to date: {_reason(error)}") from None
        self._migrated = True

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()


def migrate(engine: sa.Engine, folder: Path = MIGRATIONS) -> int:
    """Executes the migrations that the database doesn't have yet; returns the number of the last one.

    Several workers may do it at once: the first one does, and the others fail and try again.
    """
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE IF NOT EXISTS hand_counter_schema (version INTEGER PRIMARY KEY, applied_at TIMESTAMP)"
            )
        )
    version = 0
    for path in sorted(folder.glob("*.sql")):
        version = int(path.name.partition("_")[0])
        with engine.begin() as connection:
            known = connection.execute(
                sa.text("SELECT 1 FROM hand_counter_schema WHERE version = :version"), {"version": version}
            )
            if known.first():
                continue
            connection.execute(
                sa.text("INSERT INTO hand_counter_schema VALUES (:version, CURRENT_TIMESTAMP)"), {"version": version}
            )
            for statement in _statements(path.read_text()):
                connection.execute(sa.text(statement))
    return version


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement for statement in map(str.strip, "\n".join(lines).split(";")) if statement]


def _reason(error: SQLAlchemyError) -> str:
    """Returns the first line of the driver's error, which has no password and no parameters."""
    original = getattr(error, "orig", None) or error
    return str(original).strip().partition("\n")[0][:200] or type(original).__name__
