"""What users write after --sink."""

import pytest

from worker.sinks.http import HttpSink
from worker.sinks.jsonl import JsonlFile, JsonlOutput
from worker.sinks.mqtt import MqttSink
from worker.sinks.open_sinks import SinkSpec, open_feeds, parse_sink
from worker.sinks.sql import SqlSink


@pytest.mark.parametrize(
    ("text", "kind", "rest"),
    [
        ("redis", "redis", ""),
        ("jsonl:-", "jsonl", "-"),
        ("jsonl:/var/results.jsonl?max_bytes=5000&keep=0", "jsonl", "/var/results.jsonl?max_bytes=5000&keep=0"),
        ("http:https://host/hook", "http", "https://host/hook"),
        ("https://host/hook", "http", "https://host/hook"),
        ("http://[::1]:8080/hook?x=1", "http", "http://[::1]:8080/hook?x=1"),
        ("mqtt:mqtts://broker", "mqtt", "mqtts://broker"),
        ("mqtt://user:pass@broker:1884/site", "mqtt", "mqtt://user:pass@broker:1884/site"),
        ("sql:sqlite:///results.db", "sql", "sqlite:///results.db"),
    ],
)
def test_a_sink_is_understood(text: str, kind: str, rest: str) -> None:
    """With or without its kind, if the URL says it."""
    assert parse_sink(text) == SinkSpec(kind, rest)


@pytest.mark.parametrize(
    "text",
    [
        "", "SECRET", "jsonl:", "redis:SECRET", "http:", "http:SECRET", "http:ftp://SECRET@host", "http:https://",
        "mqtt:SECRET",
        "http://user:SE/CRET@host/", "mqtt://host:SECRET", "sql:", "kafka:SECRET", "jsonl:SECRET?max_bytes=many",
        "jsonl:SECRET?max_bytes=10", "jsonl:SECRET?keep=-1", "jsonl:SECRET?colour=red", "http://host:99999/SECRET",
        "http://host/a b?SECRET", "http://host/\u00fc?SECRET", "https://ho st/SECRET",
    ],
)  # fmt: skip
def test_what_is_not_valid_is_not_repeated(text: str) -> None:
    """It may hold a secret."""
    with pytest.raises(ValueError, match=r"expected|must be") as error:
        parse_sink(text)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "SECRET", "oracle://user:SECRET@host/db", "nothing://SECRET", "mysql://SECRET@host/x", "sqlite://SECRET",
        "sqlite://user:SECRET@host/x", "postgresql://user:S@SECRET@host/db",
        "postgresql://user:SECRET@host:SECRET/db",
    ],
)  # fmt: skip
def test_an_invalid_database_is_not_repeated(url: str) -> None:
    """Nor tried."""
    with pytest.raises(ValueError, match="expected") as error:
        open_feeds([parse_sink(f"sql:{url}")], hmac_key=b"", worker="me", queue="q")
    assert "SECRET" not in str(error.value)


def test_each_kind_has_its_sink() -> None:
    """Redis has none: the worker always writes there. Names are unique."""
    texts = [
        "redis",
        "jsonl:-",
        "jsonl:x",
        "http://h/",
        "http://h/2",
        "mqtt://h",
        "sql:sqlite://",
        "sql:postgresql://h/d",
    ]
    feeds = open_feeds(list(map(parse_sink, texts)), hmac_key=b"k", worker="me", queue="q").feeds
    assert [feed.name for feed in feeds] == ["jsonl", "jsonl-2", "http", "http-2", "mqtt", "sql", "sql-2"]
    kinds = [JsonlOutput, JsonlFile, HttpSink, HttpSink, MqttSink, SqlSink, SqlSink]
    assert [type(feed._sink) for feed in feeds] == kinds


def test_secrets_are_not_shown() -> None:
    """By repr, which logs and errors may use."""
    assert "SECRET" not in repr(parse_sink("mqtt://user:SECRET@broker"))
