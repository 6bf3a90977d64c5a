"""Names are text, whatever they contain; the page runs nothing that isn't its own."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.console.browser.conftest import HOSTILE

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
Open = Callable[..., Any]


def test_names_with_markup_and_other_directions_are_text(open_page: Open, client: redis.Redis):
    page = open_page()
    for name in HOSTILE:
        plain = name.replace("\u202e", "U+202E")
        expect(page.locator(".tile .name a", has_text=plain)).to_have_count(1)
    assert page.locator("main img[src=x]").count() == 0
    page.locator(".tile .name a", has_text=HOSTILE[0]).click()
    expect(page.locator("h1")).to_have_text(HOSTILE[0])
    expect(page.locator(".json")).to_contain_text("stream_name", use_inner_text=False)
    assert page.title().startswith(HOSTILE[0])
    for place in ("#/table", "#/limits", "#/fleet"):
        page.goto(page.url.partition("#")[0] + place)
        page.wait_for_selector("h1")
    assert page.title() != "owned"


def test_a_field_with_control_characters_is_shown_and_removed(open_page: Open, client: redis.Redis):
    """Redis may hold any bytes as a name, even those that aren't UTF-8."""
    client.hset("stream_fps_configs", mapping={b"bell\x07\x1b[31m": "1", b"\xff\xfe": "<b>2</b>", "": "3"})
    page = open_page("#/limits")
    bell = page.locator(".findings li", has_text="bell")
    expect(bell).to_contain_text("bellU+0007U+001B[31m")
    expect(page.locator("tbody tr", has_text="U+DCFF")).to_contain_text("<b>2</b>")
    for text in ("bell", "U+DCFF", "empty"):
        page.locator("tbody tr", has_text=text).first.get_by_role("button", name="Remove").click()
        expect(page.locator("tbody tr", has_text=text)).to_have_count(0)
    assert client.hgetall("stream_fps_configs") == {}


def test_the_browser_refuses_what_isnt_the_pages_own(open_page: Open, client: redis.Redis):
    page = open_page()
    refused = page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.textContent = "document.title = 'owned'"; } catch { return "refused"; }
          document.head.append(script);
          return document.title;
        }"""
    )
    assert refused == "refused"
    page.problems.clear()
