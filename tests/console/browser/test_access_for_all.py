"""axe-core finds nothing that people with screen readers or low vision couldn't use."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs a browser: make browser").Axe
Open = Callable[..., Any]
PLACES = {"wall": "#/", "table": "#/table", "camera": "#/camera/assembly-1", "fleet": "#/fleet", "limits": "#/limits"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390], ids=["desk", "phone"])
@pytest.mark.parametrize("place", PLACES)
def test_axe_finds_nothing(open_page: Open, client: redis.Redis, place: str, width: int, dark: bool):
    client.hset("stream_fps_configs", mapping={"assembly-2": "0", "dock-south": "fast", "gone": "1"})
    page = open_page(PLACES[place], width=width, dark=dark)
    if place == "limits":
        page.locator("details").first.evaluate("details => details.open = true")
        expect(page.locator(".findings li").first).to_be_visible()
    if place == "wall":
        expect(page.locator(".tile").nth(5)).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_in_dialogs(open_page: Open, client: redis.Redis, dark: bool):
    page = open_page(dark=dark)
    expect(page.locator(".tile").nth(5)).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")
    expect(page.locator("dialog")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert Axe().run(page).violations_count == 0
