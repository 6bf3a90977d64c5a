"""Results in databases: SQLite, and Debian's PostgreSQL."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.results import counted, numbered
from support.sink_servers import postgresql

from worker.sinks.open_sinks import open_feeds, parse_sink
from worker.sinks.sink import RejectedError, SinkError
from worker.sinks.sql import SqlSink, migrate


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    """A server for all tests of this module."""
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """An empty database."""
    if request.param == "sqlite":
        return sa.make_url(f"sqlite:///{tmp_path}/results.db")
    url = sa.make_url(request.getfixturevalue("postgresql_url")).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@contextmanager
def opened(url: sa.URL, queue: str = "q") -> Iterator[SqlSink]:
    """A sink, closed after the block."""
    sink = SqlSink(url, queue, now=lambda: 1234.5)
    try:
        yield sink
    finally:
        sink.close()


def rows(url: sa.URL) -> list[sa.Row]:
    """The table, in its order."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT * FROM hand_counter_results ORDER BY ts, queue")).all()
    engine.dispose()
    return list(found)


def test_results_are_rows(url: sa.URL) -> None:
    """With the columns that people ask for, and the whole result."""
    with opened(url, "site") as sink:
        sink.write(numbered(2))
    first, _ = rows(url)
    assert first._asdict() == {
        "queue": "site", "entry_id": "1-0", "stream_name": "cam1", "ts": 1001.0, "hand_count": 2, "width": 640,
        "height": 480, "age": 0.25, "counted_at": 1234.5, "result": counted(1).result,
    }  # fmt: skip


def test_a_repeated_batch_changes_nothing(url: sa.URL) -> None:
    """Its reply may have been lost. Another queue may have the same ids."""
    for queue in ("a", "a", "b"):
        with opened(url, queue) as sink:
            sink.write(numbered(3))
    assert [row.queue for row in rows(url)] == ["a", "b"] * 3


def test_migrations_are_executed_once(url: sa.URL, tmp_path: Path) -> None:
    """A later version adds its own, and what is there stays."""
    engine = sa.create_engine(url)
    assert migrate(engine) == migrate(engine) == 1
    with opened(url) as sink:
        sink.write(numbered(1))
    later = tmp_path / "migrations"
    later.mkdir()
    (later / "0002_site.sql").write_text(
        "-- A comment; with a semicolon.\nALTER TABLE hand_counter_results ADD site TEXT;\n"
    )
    assert migrate(engine, later) == migrate(engine, later) == 2
    engine.dispose()
    assert rows(url)[0].site is None


def test_several_workers_may_begin_at_once(url: sa.URL) -> None:
    """Some of their first attempts may fail; then they try again."""
    failures: list[Exception] = []

    def begin(number: int) -> None:
        with opened(url, f"q{number}") as sink:
            for _ in range(20):
                try:
                    sink.write([counted()])
                    break
                except RejectedError as error:
                    failures.append(error)
                except SinkError:
                    continue

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(rows(url)) == 6


def test_a_database_that_is_not_there_is_an_error(postgresql_url: str) -> None:
    """Without the password."""
    wrong = postgresql_url.replace("SECRET", "SECRET2")
    (feed,) = open_feeds([parse_sink(f"sql:{wrong}")], hmac_key=b"", worker="me", queue="q").feeds
    with pytest.raises(SinkError) as error:
        feed._sink.write([counted()])
    feed._sink.close()
    assert not isinstance(error.value, RejectedError)
    assert "SECRET" not in str(error.value)


def test_a_result_that_does_not_fit_is_rejected_alone(postgresql_url: str) -> None:
    """PostgreSQL takes no NUL in texts. The others are kept; the error names the result and doesn't show it."""
    url = sa.make_url(postgresql_url).set(drivername="postgresql+psycopg")
    good, bad = numbered(4), counted(9, "PRIVATE\0")
    with opened(url, "rejecting") as sink:
        with pytest.raises(RejectedError, match="database") as error:
            sink.write([*good[:2], bad, *good[2:]])
        assert error.value.results == [bad]
        assert [row.entry_id for row in rows(url) if row.queue == "rejecting"] == [result.entry_id for result in good]
        with pytest.raises(RejectedError) as all_rejected:
            sink.write([bad])
        assert all_rejected.value.results is None
    assert "PRIVATE" not in str(error.value)


def test_sqlite_keeps_the_others_too(tmp_path: Path) -> None:
    """A number that doesn't fit is the driver's error."""
    url = sa.make_url(f"sqlite:///{tmp_path}/results.db")
    bad = counted(2)._replace(width=2**80)
    with opened(url) as sink, pytest.raises(RejectedError) as error:
        sink.write([counted(1), bad, counted(3)])
    assert error.value.results == [bad]
    assert [row.entry_id for row in rows(url)] == ["1-0", "3-0"]
