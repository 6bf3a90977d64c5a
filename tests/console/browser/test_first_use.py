"""What somebody does who has never seen the console."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import redis
from support.console.cameras import Cameras
from support.waiting import wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
Open = Callable[..., Any]
KEY = "stream_fps_configs"


def _number(page: Any, label: str) -> float:
    """Returns a number of the camera's page."""
    text = page.locator(".facts div", has=page.get_by_text(label, exact=True)).locator("dd span").inner_text()
    return math.nan if not text[0].isdigit() and text != "none" else math.inf if text == "none" else float(text)


def test_a_camera_is_found_slowed_down_paused_and_undone(open_page: Open, client: redis.Redis):
    """By keyboard and mouse: the achieved rate follows the limit, the pause shows, and an undo brings the limit back."""
    page = open_page()
    expect(page.locator(".tile", has_text="assembly-1")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("pack")
    expect(page.locator(".tile")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("packing")
    wait_until(lambda: 1.5 < _number(page, "Admitted fps") < 2.6, "the rate at the default of 2 fps", every_s=0.2)
    page.get_by_label("Limit, frames per second; inf: none").fill("0,5")
    page.get_by_role("button", name="Set limit").click()
    expect(page.locator(".toast")).to_contain_text("packing: 0.5 fps")
    assert client.hget(KEY, "packing") == "0.5"
    wait_until(lambda: _number(page, "Limit") == 0.5, "the limit in force", every_s=0.1)
    wait_until(lambda: 0.0 < _number(page, "Admitted fps") < 0.9, "the achieved rate follows", every_s=0.2)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".head .badge")).to_have_text("Paused")
    assert client.hget(KEY, "packing") == "0"
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".head .badge")).not_to_have_text("Paused")
    assert client.hget(KEY, "packing") == "0.5"
    page.get_by_role("button", name="Remove own limit").click()
    expect(page.locator(".limit-now")).to_contain_text("from: default")


def test_a_boost_counts_down_and_can_be_ended(open_page: Open, client: redis.Redis):
    page = open_page("#/camera/bakery")
    page.get_by_label("Boost, frames per second").fill("5")
    page.get_by_role("button", name="Boost", exact=True).click()
    expect(page.locator(".countdown")).to_contain_text("Boost ends in 00:0")
    assert client.hget(f"{KEY}:boosts", "bakery").startswith("5 ")
    page.get_by_role("button", name="End it now").click()
    expect(page.locator(".countdown")).to_be_hidden()
    assert client.hget(f"{KEY}:boosts", "bakery") is None


def test_a_change_by_somebody_else_appears(open_page: Open, client: redis.Redis):
    page = open_page("#/camera/canteen")
    expect(page.locator(".limit-now")).to_contain_text("2 fps")
    client.hset(KEY, "canteen", "4")
    expect(page.locator(".limit-now")).to_contain_text("4 fps")
    expect(page.locator(".limit-now")).to_contain_text("own field")


def test_a_bad_value_is_found_and_mended(open_page: Open, client: redis.Redis):
    page = open_page()
    client.hset(KEY, "dock-north", "2 fps")
    tile = page.locator(".tile", has_text="dock-north")
    expect(tile).to_contain_text("Bad value in Redis: 2 fps")
    page.get_by_role("link", name="Limits").click()
    finding = page.locator(".findings li", has_text="dock-north")
    expect(finding).to_contain_text("isn't a valid fps")
    finding.get_by_role("button", name="Edit").click()
    page.locator("#edit-fps").fill("3")
    page.locator("dialog").get_by_role("button", name="Set limit").click()
    expect(finding).to_have_count(0)
    assert client.hget(KEY, "dock-north") == "3"
    change = page.locator(".audit li", has_text="dock-north").first
    expect(change).to_contain_text("2 fps → 3")
    expect(change).to_contain_text("with console")


def test_a_silent_camera_is_noticed(open_page: Open, client: redis.Redis, cameras: Cameras):
    """It comes first on the wall, and says for how long it has been silent."""
    page = open_page()
    cameras.cameras["reception"].silent = True
    try:
        first = page.locator(".tile").first
        expect(first).to_contain_text("reception", timeout=90_000)
        expect(first).to_contain_text("silent for")
        expect(page.get_by_role("button", name="Silent")).to_be_visible()
    finally:
        cameras.cameras["reception"].silent = False
    expect(page.locator(".tile[data-state=silent]")).to_have_count(0)


def test_the_keyboard_alone(open_page: Open, client: redis.Redis):
    page = open_page()
    expect(page.locator(".tile").nth(4)).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("e")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.type("1.25")
    page.keyboard.press("Enter")
    wait_until(lambda: client.hget(KEY, name) == "1.25", "the limit is set", every_s=0.1)
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("find a camera")
    page.keyboard.press("Escape")


def test_patterns_import_and_export(open_page: Open, client: redis.Redis):
    page = open_page("#/limits")
    page.get_by_label("Stream, pattern").fill("floor1-*")
    page.get_by_label("fps", exact=True).fill("0.5")
    page.get_by_role("button", name="Set limit").click()
    expect(page.locator("tbody tr", has_text="floor1-*")).to_contain_text("Pattern")
    page.get_by_text("Import", exact=True).first.click()
    page.get_by_label("Limits as YAML or CSV").fill("limits:\n  entrance: 7\n")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_text("entrance: none → 7")).to_be_visible()
    assert client.hget(KEY, "entrance") is None
    page.get_by_role("button", name="Import", exact=True).click()
    wait_until(lambda: client.hget(KEY, "entrance") == "7", "the import", every_s=0.1)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export YAML").click()
    assert "entrance" in download.value.path().read_text()
