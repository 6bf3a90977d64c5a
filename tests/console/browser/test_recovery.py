"""Pages that stay open while what they show, and the console itself, is restarted."""

from collections.abc import Callable
from typing import Any

import pytest
from support.console.cameras import Camera, Cameras
from support.console.pages import console_page
from support.console.processes import console_process
from support.processes.ports import free_port
from support.processes.sidecars import sidecar_process
from support.redis.valkey import Valkey, valkey
from support.waiting import wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
Open = Callable[..., Any]

ODD_NAMES = ()


def _close(page: Any) -> None:
    """Closes a page whose browser has noted answers that failed, which is what the test is about."""
    assert [problem for problem in page.problems if "Failed to load resource" not in problem] == []
    page.context.close()


def test_a_console_that_is_restarted(chromium: Any, server: Valkey, client: Any):
    """The page says that the connection is lost, and goes on by itself; with tokens it asks to log in again."""
    client.hset("stream_fps_configs", "cam1", "2")
    port, tokens = free_port(), ("--viewer-token", "viewer-secret-123")
    with console_process(redis_url=server.url, port=port) as console:
        page = console_page(chromium, console.url)
    expect(page.locator("#connection")).to_have_text("connection lost, trying again")
    with console_process(redis_url=server.url, port=port):
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator(".tile").first).to_be_visible()
    with console_process(*tokens, redis_url=server.url, port=port):
        expect(page.locator("input[name=token]")).to_be_visible()
        page.locator("input[name=token]").fill(tokens[1])
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("live")
        page.get_by_role("button", name="Log out").click()
        expect(page.locator("input[name=token]")).to_be_visible()
        page.goto(console.url)
        expect(page.locator("input[name=token]")).to_be_visible()
    _close(page)


def test_too_many_pages(chromium: Any, server: Valkey):
    """One that finds no room says so, and gets a place when another is closed."""
    with console_process("--max-viewers", "1", redis_url=server.url) as console:
        first = console_page(chromium, console.url)
        context = chromium.new_context()
        second = context.new_page()
        second.goto(console.url)
        expect(second.locator("#connection")).to_have_text("too many pages are open")
        _close(first)
        expect(second.locator("#connection")).to_have_text("live")
        context.close()


def test_redis_and_a_sidecar_that_are_restarted(chromium: Any):
    """What can't be read is said, and the cameras stay; after FLUSHALL they come back with their next frames."""
    with valkey() as server, server.client() as client, console_process(redis_url=server.url) as console:
        page = console_page(chromium, console.url)
        expect(page.locator(".empty")).to_contain_text("hand-counter publish")
        assert client.ping()
        _close(page)
    port = free_port()
    with valkey() as server, console_process(redis_url=server.url, sidecar=f"127.0.0.1:{port}") as console:
        with (
            sidecar_process(redis_url=server.url, fps=2, port=port),
            server.client() as client,
            Cameras(client, f"127.0.0.1:{port}", [Camera("cam1"), Camera("cam2")]),
        ):
            page = console_page(chromium, console.url)
            expect(page.locator(".tile[data-state=live]")).to_have_count(2)
            client.flushall()
            expect(page.locator(".tile[data-state=live]")).to_have_count(2)
        expect(page.locator("#notice")).to_contain_text("doesn't answer")
        server.kill()
        expect(page.locator("#notice")).to_contain_text("Redis can't be read")
        expect(page.locator(".tile")).to_have_count(2)
        server.restart()
        with (
            sidecar_process(redis_url=server.url, fps=2, port=port),
            server.client() as client,
            Cameras(client, f"127.0.0.1:{port}", [Camera("cam1"), Camera("cam2")]),
        ):
            expect(page.locator("#notice")).to_be_hidden()
            expect(page.locator(".tile[data-state=live]")).to_have_count(2)
            wait_until(lambda: page.locator("#connection").inner_text() == "live", "it went on")
        _close(page)
