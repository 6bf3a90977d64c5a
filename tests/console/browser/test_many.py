"""500 cameras: all are there, and only what can be seen is kept current."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.console.cameras import simulated_hashes
from support.console.processes import ConsoleProcess, console_process
from support.redis.valkey import Valkey

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def console(server: Valkey) -> Iterator[ConsoleProcess]:
    with (
        server.client() as client,
        simulated_hashes(client, 500),
        console_process(redis_url=server.url) as running,
    ):
        yield running


def test_all_cameras_are_on_the_wall_and_in_the_table(open_page: Open):
    page = open_page()
    expect(page.locator(".tile")).to_have_count(500)
    expect(page.get_by_role("button", name="All")).to_contain_text("500")
    page.get_by_role("link", name="Table").click()
    expect(page.locator("table")).to_have_attribute("aria-rowcount", "501")
    assert page.locator("tbody tr").count() < 100
    page.locator(".grid").evaluate("grid => grid.scrollTop = grid.scrollHeight")
    expect(page.locator("tbody tr", has_text="camera-500")).to_be_visible()


def test_only_visible_tiles_fetch_pictures(open_page: Open):
    page = open_page()
    expect(page.locator(".tile")).to_have_count(500)
    page.wait_for_timeout(2000)
    asked = page.evaluate(
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/api/picture')).length"
    )
    assert asked < 200
