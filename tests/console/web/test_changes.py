"""Changes that the page asks for, with a real Redis."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support.redis.valkey import Valkey

from console.control.connection import connect
from console.control.keys import ControlKeys
from console.web.changes import Changes, RefusedError
from console.web.demands import Demands
from process.redis_url import parse_redis_url

KEY = "stream_fps_configs"


@pytest.fixture
def client(server: Valkey) -> Iterator[redis.Redis]:
    with server.client() as opened:
        opened.flushall()
        opened.hset(KEY, mapping={"a": "2", "bad": "two"})
        yield opened


@pytest.fixture
def changes(server: Valkey, client: redis.Redis) -> Iterator[Changes]:
    made = Changes(lambda: connect(parse_redis_url(server.url)), ControlKeys())
    yield made
    made.close()


async def _make(changes: Changes, who: str = "ada", demands: Demands | None = None, **asked: Any) -> dict[str, Any]:
    return await changes.make(asked, who, demands or Demands())


async def test_a_limit_is_set_and_audited(changes: Changes, client: redis.Redis):
    done = await _make(changes, action="set", names=["a"], fps="0.5")
    assert client.hget(KEY, "a") == "0.5"
    assert done["changes"] == [{"kind": "limit", "name": "a", "old": "2", "new": "0.5"}]
    (entry,) = await changes.audit(10)
    assert (entry["who"], entry["tool"], entry["old"], entry["new"]) == ("ada", "console", "2", "0.5")


async def test_pause_resume_and_undo(changes: Changes, client: redis.Redis):
    await _make(changes, action="pause", names=["a"])
    assert client.hget(KEY, "a") == "0"
    await _make(changes, action="resume", names=["a"])
    assert client.hget(KEY, "a") == "2"
    await _make(changes, action="reset", names=["a"])
    assert client.hget(KEY, "a") is None
    await _make(changes, action="undo", name="a")
    assert client.hget(KEY, "a") == "2"


async def test_an_undo_without_a_name_is_of_ones_own_last_change(changes: Changes, client: redis.Redis):
    await _make(changes, action="set", names=["a"], fps=3)
    await _make(changes, "bob", action="set", names=["b"], fps=4)
    await _make(changes, action="undo", by="ada")
    assert client.hgetall(KEY) == {"a": "2", "b": "4", "bad": "two"}


async def test_a_boost_and_its_end(changes: Changes, client: redis.Redis):
    await _make(changes, action="boost", names=["a"], fps=10, seconds=3600)
    fps, until = client.hget(f"{KEY}:boosts", "a").split()
    assert fps == "10"
    assert 3500 < float(until) - client.time()[0] <= 3601
    await _make(changes, action="end_boost", names=["a"])
    assert not client.exists(f"{KEY}:boosts")


async def test_a_pattern(changes: Changes, client: redis.Redis):
    await _make(changes, action="pattern", name="floor1-*", fps="0.5")
    assert client.hgetall(f"{KEY}:patterns") == {"floor1-*": "0.5"}
    await _make(changes, action="pattern", name="floor1-*", fps=None)
    assert not client.exists(f"{KEY}:patterns")


@pytest.mark.parametrize("name", ["bad", "", " blank ", "a\nb", "\udcff"])
async def test_what_no_tool_would_have_written_can_be_removed(changes: Changes, client: redis.Redis, name: str):
    client.hset(KEY, name.encode(errors="surrogateescape"), "x")
    await _make(changes, action="remove", kind="limit", name=name)
    assert not client.hexists(KEY, name.encode(errors="surrogateescape"))


async def test_an_import_is_shown_first(changes: Changes, client: redis.Redis):
    asked = {"action": "import", "format": "yaml", "text": "limits: {a: 5, new: 1}"}
    tried = await _make(changes, **asked, dry_run=True)
    assert len(tried["changes"]) == 2
    assert client.hget(KEY, "a") == "2"
    await _make(changes, **asked)
    assert client.hgetall(KEY) == {"a": "5", "new": "1", "bad": "two"}


async def test_a_warning_has_to_be_confirmed(changes: Changes, client: redis.Redis):
    demands = Demands({"a": 25.0}, peak=2.0, most=2.0, now=float(client.time()[0]))
    with pytest.raises(RefusedError, match="when they are full") as refused:
        await _make(changes, demands=demands, action="set", names=["a"], fps=20)
    assert refused.value.warning
    assert client.hget(KEY, "a") == "2"
    await _make(changes, demands=demands, action="set", names=["a"], fps=20, confirmed=True)
    assert client.hget(KEY, "a") == "20"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "no such action"),
        ({"action": "explode", "names": []}, "no such action"),
        ({"action": "set", "names": "a", "fps": 1}, "expected the names"),
        ({"action": "set", "names": [1], "fps": 1}, "expected the names"),
        ({"action": "set", "names": ["a"]}, "expected frames per second"),
        ({"action": "set", "names": ["a"], "fps": True}, "expected frames per second"),
        ({"action": "set", "names": ["a"], "fps": -1}, "isn't a valid fps"),
        ({"action": "set", "names": ["a"], "fps": float("nan")}, "cannot convert|NaN|nan"),
        ({"action": "set", "names": ["a"], "fps": "1,5"}, "isn't a valid fps"),
        ({"action": "set", "names": ["a\nb"], "fps": 1}, "control"),
        ({"action": "set", "names": [" a"], "fps": 1}, "blank"),
        ({"action": "boost", "names": ["a"], "fps": 1, "seconds": 0}, "a boost lasts"),
        ({"action": "boost", "names": ["a"], "fps": 1, "seconds": "1h"}, "a boost lasts"),
        ({"action": "boost", "names": ["*"], "fps": 1, "seconds": 60}, "can't be boosted"),
        ({"action": "pattern", "name": "plain", "fps": 1}, "isn't a pattern"),
        ({"action": "pattern", "name": 7, "fps": 1}, "expected a text"),
        ({"action": "remove", "kind": "limit", "name": "gone"}, "isn't there any more"),
        ({"action": "remove", "kind": "key", "name": "a"}, "no such kind"),
        ({"action": "import", "format": "xml", "text": ""}, "yaml or csv"),
        ({"action": "import", "format": "yaml", "text": "limits: 5"}, "line 1"),
        ({"action": "undo", "name": "a"}, "no such change"),
    ],
)
async def test_what_is_refused_changes_nothing(
    changes: Changes, client: redis.Redis, asked: dict[str, Any], reason: str
):
    with pytest.raises(RefusedError, match=reason) as refused:
        await _make(changes, **{"action": "", "names": [], **asked})
    assert not refused.value.warning
    assert client.hgetall(KEY) == {"a": "2", "bad": "two"}
    assert not client.exists(f"{KEY}:audit")


async def test_what_others_change_is_noted(changes: Changes, client: redis.Redis):
    await changes.notice_others()
    client.hset(KEY, "a", "7")
    await changes.notice_others()
    (entry,) = await changes.audit(10)
    assert (entry["tool"], entry["old"], entry["new"]) == ("other", "2", "7")


async def test_a_redis_that_is_gone_is_a_sentence(server: Valkey):
    changes = Changes(lambda: connect(parse_redis_url("redis://127.0.0.1:1/0")), ControlKeys())
    with pytest.raises(RefusedError, match="Redis is unreachable"):
        await _make(changes, action="set", names=["a"], fps=1)
    with pytest.raises(RefusedError, match="Redis is unreachable"):
        await changes.audit(1)
    changes.close()
