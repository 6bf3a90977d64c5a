"""The console as a process, with a real Redis and a real sidecar."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
import redis
from support.console.cameras import Camera, Cameras
from support.console.events import Events
from support.console.processes import ConsoleProcess, console_process
from support.processes.programs import REPOSITORY
from support.processes.sidecars import SidecarProcess
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

HOSTILE = ["<img src=x onerror=alert(1)>", "\u202egpj.exe", "a/b?c#d&e=f", "камера 7", "'\"--"]


@pytest.fixture(scope="module")
def cameras(server: Valkey, sidecar: SidecarProcess) -> Iterator[Cameras]:
    names = ["cam1", "cam2", "quiet", *HOSTILE]
    with (
        server.client() as client,
        Cameras(client, sidecar.address, [Camera(name) for name in names], {"cam1": b"\xff\xd8jpeg"}) as running,
    ):
        client.set("{hand_counter}:preview:cam2", "<script>alert(1)</script>")
        yield running


@pytest.fixture(scope="module")
def console(server: Valkey, sidecar: SidecarProcess, cameras: Cameras) -> Iterator[ConsoleProcess]:
    with console_process("--hide-pictures", "quiet*", redis_url=server.url, sidecar=sidecar.address) as running:
        yield running


@pytest.fixture
def events(console: ConsoleProcess) -> Iterator[Events]:
    opened = Events(console)
    yield opened
    opened.close()


@pytest.fixture
def client(server: Valkey) -> Iterator[redis.Redis]:
    with server.client() as opened:
        yield opened
        opened.delete("stream_fps_configs")


def test_a_page_is_told_every_camera_with_its_limit_and_rates(events: Events):
    events.until(lambda: events.row("cam1").get("counted_fps", 0) > 1)
    row = events.row("cam1")
    assert (row["state"], row["hands"], row["limit"], row["limit_source"]) == ("live", 2, 2.0, "default")
    assert row["last_skip"] == "too_soon"


def test_hostile_names_come_as_they_are(events: Events, console: ConsoleProcess):
    events.until(lambda: all(events.row(name).get("hands") for name in HOSTILE))
    for name in HOSTILE:
        details = console.json(f"/api/camera?{urlencode({'name': name})}")
        assert details["row"]["name"] == name
        assert details["result"]["stream_name"] == name


def test_a_change_by_anybody_is_told_at_once(events: Events, client: redis.Redis):
    events.until(lambda: events.row("cam1").get("limit"))
    client.hset("stream_fps_configs", "cam1", "5")
    events.until(lambda: events.row("cam1")["limit"] == 5.0)
    assert events.row("cam1")["limit_source"] == "override"
    client.hset("stream_fps_configs", "cam1", "0")
    events.until(lambda: events.row("cam1")["state"] == "paused")


def test_a_bad_value_is_told(events: Events, client: redis.Redis):
    events.until(lambda: events.row("cam2").get("limit"))
    client.hset("stream_fps_configs", "cam2", "two")
    events.until(lambda: events.row("cam2")["invalid"] == "two")
    assert events.row("cam2")["limit"] == 2.0


def test_a_key_of_another_type_is_told(events: Events, client: redis.Redis, console: ConsoleProcess):
    client.set("stream_fps_configs:patterns", "text")
    events.until(lambda: "patterns can't be read" in "".join(events.sections.get("problems", [])))
    assert [each["code"] for each in console.json("/api/limits")["findings"]].count("wrong-type") == 1
    client.delete("stream_fps_configs:patterns")
    events.until(lambda: not events.sections["problems"])


def test_a_field_that_no_stream_has_is_a_row(events: Events, client: redis.Redis):
    client.hset("stream_fps_configs", b"\xffodd", "1")
    events.until(lambda: events.row("\udcffodd"))
    assert events.row("\udcffodd")["state"] == "unseen"


def test_pictures_are_jpegs_of_cameras_whose_pictures_are_shown(console: ConsoleProcess, events: Events):
    events.until(lambda: events.row("cam1").get("counted_at"))
    status, picture, headers = console.ask("GET", "/api/picture?name=cam1")
    assert (status, picture, headers["content-type"]) == (200, b"\xff\xd8jpeg", "image/jpeg")
    assert console.get("/api/picture?name=cam2")[0] == 204, "what isn't a JPEG isn't sent"
    assert console.get("/api/picture?name=quiet")[0] == 204
    assert console.get("/api/picture?name=nobody")[0] == 204
    assert events.row("quiet")["picture"] is False


def test_the_history_of_a_camera(console: ConsoleProcess):
    def recorded() -> bool:
        return any(console.json("/api/history?name=cam1")["hands"])

    wait_until(recorded, "a point was recorded")


def test_the_fleet_is_told(events: Events):
    events.until(lambda: events.sections.get("fleet", {}).get("redis", {}).get("tracking"))
    fleet = events.sections["fleet"]
    assert [each["redis_state"] for each in fleet["sidecars"]] == ["tracking"]
    assert fleet["queue"]["accounting"]["received"] > 0
    assert fleet["redis"]["name"] == "Valkey"


def test_it_is_read_only_unless_told(console: ConsoleProcess):
    session = console.json("/api/session")
    assert (session["role"], session["changes"]) == ("viewer", False)
    assert console.send("/api/changes", {})[0] == 403


def test_many_pages_cost_redis_and_the_sidecar_no_more_than_one(console: ConsoleProcess, server: Valkey, client):
    """The feed is shared: with 100 pages about as many commands are sent as with one."""

    def sent() -> float:
        metrics = console.get("/metrics")[1].decode()
        lines = [line for line in metrics.splitlines() if line.startswith("console_redis_commands_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def rate() -> float:
        before, begin = sent(), client.time()
        first = Events(console)
        for _ in range(2):
            first.until(lambda: first.next() == "change")
        first.close()
        after, end = sent(), client.time()
        return (after - before) / (end[0] - begin[0] + (end[1] - begin[1]) / 1e6)

    alone = rate()
    pages = [Events(console) for _ in range(100)]
    for page in pages:
        page.next()
        assert page.rows
    together = rate()
    for page in pages:
        page.close()
    assert together < 3 * alone + 50


def test_too_many_pages_are_refused(server: Valkey):
    with console_process("--max-viewers", "1", redis_url=server.url) as console:
        first = Events(console)
        assert first.next() == "snapshot"
        second = Events(console)
        assert second.status == 503
        second.close()
        first.close()


def test_events_end_with_the_session(server: Valkey):
    with console_process("--operator-token", "operator-secret-1", redis_url=server.url) as console:
        form = {"content-type": "application/x-www-form-urlencoded"}
        cookie = console.ask("POST", "/login", b"token=operator-secret-1", form)[2]["set-cookie"].partition(";")[0]
        page = Events(console, cookie)
        page.next()
        token = json.loads(console.get("/api/session", {"cookie": cookie})[1])["token"]
        headers = {"cookie": cookie, "content-type": "application/json", "x-console-token": token}
        assert console.ask("POST", "/logout", b"{}", headers)[0] == 200
        for _ in range(30):
            ended = not page.next_or_end()
            if ended:
                break
        assert ended
        page.close()


def test_who_is_made_to_wait_does_not_use_up_the_logins_of_others(server: Valkey):
    with console_process("--viewer-token", "viewer-secret-123", redis_url=server.url) as console:
        form = {"content-type": "application/x-www-form-urlencoded"}
        for _ in range(80):
            console.ask("POST", "/login", b"token=wrong", form)
        request = b"POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        request += b"content-length: 23\r\nconnection: close\r\n\r\ntoken=viewer-secret-123"
        with socket.create_connection(("127.0.0.1", console.port), source_address=("127.0.0.2", 0)) as other:
            other.sendall(request)
            with other.makefile("rb") as reader:
                answer = reader.read()
        assert b"location: /\r\n" in answer


def test_a_body_that_is_too_large_is_told_so(server: Valkey):
    with console_process("--allow-changes", redis_url=server.url) as console:
        status, answer = console.send("/api/changes", {"action": "import", "format": "csv", "text": "x" * 4_000_001})
        assert (status, answer["error"]) == (413, "a request has at most 4 MB")
        status, answer = console.send("/api/changes", {"action": "import", "format": "csv", "text": "kind\rname"})
        assert (status, answer["error"]) == (409, "line 1: expected kind,name,fps")


def test_tokens_log_in(server: Valkey, tmp_path):
    (tmp_path / "operator").write_text("operator-secret-1\n")
    flags = ["--operator-token-file", str(tmp_path / "operator"), "--viewer-token", "viewer-secret-123"]
    with console_process(*flags, "--allow-changes", redis_url=server.url) as console:
        assert console.get("/api/session")[0] == 401
        assert b"password" in console.get("/login")[1]
        form = {"content-type": "application/x-www-form-urlencoded"}
        status, _, headers = console.ask("POST", "/login", b"token=wrong", form)
        assert (status, headers["location"], "set-cookie" in headers) == (303, "/login?wrong", False)
        for token, role in (("operator-secret-1", "operator"), ("viewer-secret-123", "viewer")):
            status, _, headers = console.ask("POST", "/login", f"token={token}".encode(), form)
            assert (status, headers["location"]) == (303, "/")
            cookie = headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "samesite=strict" in cookie.lower()
            session = json.loads(console.get("/api/session", {"cookie": cookie.partition(";")[0]})[1])
            assert session["role"] == role
            assert token not in headers["location"]
            assert "secure" not in cookie.lower()
        (tmp_path / "operator").write_text("operator-secret-1\noperator-secret-2\n")
        viewer, operator = cookie.partition(";")[0], {"cookie": ""}

        def logged_in() -> bool:
            _, _, headers = console.ask(
                "POST", "/login", b"token=operator-secret-2", {**form, "x-forwarded-proto": "https"}
            )
            operator["cookie"] = headers.get("set-cookie", "")
            return bool(operator["cookie"])

        wait_until(logged_in, "the new token logs in", every_s=1.0)
        assert "secure" in operator["cookie"].lower()
        pages = [Events(console, each.partition(";")[0]) for each in (viewer, operator["cookie"])]
        (tmp_path / "operator").write_text("operator-secret-3\n")
        while pages[1].next_or_end():
            pass
        assert console.get("/api/session", {"cookie": operator["cookie"].partition(";")[0]})[0] == 401
        assert console.get("/api/session", {"cookie": viewer})[0] == 200
        assert pages[0].next_or_end()
        for page in pages:
            page.close()
        for _ in range(6):
            status, _, headers = console.ask("POST", "/login", b"token=wrong", form)
        assert headers["location"] == "/login?wait"
        assert "secret" not in console.log


def test_without_redis_and_sidecar_the_page_says_so_and_recovers():
    with valkey() as server:
        server.kill()
        with console_process(redis_url=server.url) as console:
            events = Events(console)
            events.until(lambda: events.sections.get("problems"))
            assert console.get("/healthz")[0] == 503
            assert console.get("/livez")[0] == 200
            server.restart()
            events.until(lambda: events.sections["problems"] == [])
            events.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_stops_at_once_while_pages_are_open(server: Valkey, number: int):
    patient = {"console.web.running.GRACE_S": 60}  # what it waits for must end by itself, however slow the machine is
    with console_process(redis_url=server.url, constants=patient) as console:
        events = Events(console)
        events.next()
        console.process.send_signal(number)
        assert console.process.wait(20) == 0
        events.close()
        # Time, level, logger, message: the server inside it has nothing to add.
        assert {line.split()[2].partition(".")[0] for line in console.log.splitlines()} == {"console"}


@pytest.mark.parametrize(("user", "changes"), [("hand-counter-console-view", False), ("hand-counter-console", True)])
def test_the_documented_users_suffice(server: Valkey, cameras: Cameras, client: redis.Redis, user: str, changes: bool):
    """A console that logs in as its user in docs/redis-acl.md sees everything, and changes limits if it may."""
    page = (REPOSITORY / "docs/redis-acl.md").read_text()
    (rules,) = re.findall(rf"^ACL SETUSER {user} on >SECRET (.*)$", page, re.MULTILINE)
    client.execute_command("ACL", "SETUSER", user, "on", ">secret-of-a-test", *rules.split())
    url = server.url.replace("redis://", f"redis://{user}:secret-of-a-test@")
    client.execute_command("ACL", "LOG", "RESET")
    with console_process(*(["--allow-changes"] if changes else []), redis_url=url) as console:
        events = Events(console)
        events.until(lambda: events.sections.get("fleet", {}).get("redis", {}).get("tracking"))
        events.until(lambda: events.row("cam1").get("hands"))
        assert events.sections["problems"] == []
        assert console.json("/api/camera?name=cam1")["result"]
        assert console.get("/api/picture?name=cam1")[0] == 200
        assert isinstance(console.json("/api/audit"), list)
        if changes:
            assert console.send("/api/changes", {"action": "set", "names": ["cam9"], "fps": 1})[0] == 200
            events.until(lambda: events.row("cam9"))
            assert console.send("/api/changes", {"action": "undo"})[0] == 200

            def noticed() -> bool:
                """Changes a limit by other means each time, because the first look at the limits notes nothing."""
                client.hset("stream_fps_configs", "cam9", client.time()[1])
                return console.json("/api/audit")[0]["tool"] == "other"

            wait_until(noticed, "a change by somebody else is noted", every_s=0.5)
        events.close()
        assert "secret-of-a-test" not in console.log
    assert client.execute_command("ACL", "LOG") == []


def test_a_console_that_changes_limits_over_http(server: Valkey, cameras: Cameras, client: redis.Redis):
    with console_process("--allow-changes", redis_url=server.url) as console:
        assert console.send("/api/changes", {"action": "set", "names": ["cam1"], "fps": "0.5"})[0] == 200
        assert client.hget("stream_fps_configs", "cam1") == "0.5"
        status, answer = console.send("/api/changes", {"action": "set", "names": ["cam1"], "fps": "fast"})
        assert (status, answer["warning"]) == (409, False)
        assert console.send("/api/changes", [])[0] == 409
        client.hset("stream_fps_configs", "cam2", "two")

        def found() -> bool:
            limits = console.json("/api/limits")
            return [each["code"] for each in limits["findings"] if each["name"] == "cam2"] == ["bad-value"]

        wait_until(found, "the bad value is found")
        assert b"cam1" in console.get("/api/export?format=yaml")[1]
        assert console.get("/api/export?format=csv")[1].startswith(b"kind,name,fps")
        token = console.json("/api/session")["token"]
        headers = {"content-type": "application/json", "x-console-token": token}
        assert console.ask("POST", "/api/changes", b"{", headers)[0] == 400
        assert console.ask("POST", "/logout", b"{}", headers)[0] == 200
        assert b"<main" in console.get("/")[1]
        assert console.ask("GET", "/static/main.js")[2]["cache-control"] == "no-cache"
        assert console.get("/api/camera?name=nobody")[0] == 404
        assert console.ask("GET", "/login")[2]["location"] == "/"
        assert console.ask("POST", "/login", b"token=x")[0] in (303, 403, 415)
