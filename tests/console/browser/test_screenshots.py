"""The pictures in README and docs: made by this test, so that they show what the page is.

SCREENSHOTS=docs/figures make browser ARGS="-k screenshots"
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from support.console.cameras import Cameras
from support.waiting import wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="needs a browser: make browser")
expect = sync_api.expect
MOST_BYTES = 200_000
LIMITS = {
    "*": "2",
    "assembly-1": "5",
    "bakery": "0",
    "canteen": "0.25",
    "dock-north": "2 fps",
    "entrance": "inf",
    "old-camera": "1",
}
ODD_NAMES = ()
HISTORY_POINTS = 9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the pictures go."""
    return Path(os.environ.get("SCREENSHOTS") or tmp_path)


def _shoot(page: Any, path: Path) -> None:
    page.mouse.move(0, 0)
    # Not wait_for_function: it waits by eval, which the page's policy forbids.
    loaded = "[...document.images].every((image) => image.hidden || image.complete)"
    wait_until(lambda: page.evaluate(loaded), "the pictures are loaded", every_s=0.1)
    page.screenshot(path=path, type="jpeg", quality=82)
    assert 10_000 < path.stat().st_size <= MOST_BYTES, path


def test_screenshots(open_page: Callable[..., Any], client: redis.Redis, cameras: Cameras, console: Any, folder: Path):
    client.hset("stream_fps_configs", mapping=LIMITS)
    client.hset("stream_fps_configs:patterns", mapping={"floor1-*": "1"})
    console.send("/api/changes", {"action": "boost", "names": ["assembly-2"], "fps": 8, "seconds": 3600})
    console.send("/api/changes", {"action": "set", "names": ["assembly-1"], "fps": 4})
    shown = {name: camera.hands for name, camera in cameras.cameras.items()}
    for left in reversed(range(HISTORY_POINTS if os.environ.get("SCREENSHOTS") else 3)):
        cameras.cameras["assembly-1"].hands = max(0, shown["assembly-1"] + left % 3 - 1)
        cameras.cameras["floor1-west"].silent = left < 2
        if left == HISTORY_POINTS // 2:
            console.send("/api/changes", {"action": "set", "names": ["assembly-1"], "fps": 5})
        before = len(console.json("/api/history?name=assembly-1")["at"])
        wait_until(
            lambda before=before: len(console.json("/api/history?name=assembly-1")["at"]) > before,  # type: ignore[misc]
            "another point of the history",
            every_s=0.5,
        )
    cameras.cameras["assembly-1"].hands = shown["assembly-1"]
    for dark in (False, True):
        page = open_page(width=1280, height=820, dark=dark)
        expect(page.locator(".tile").first).to_contain_text("silent for", timeout=60_000)
        expect(page.locator(".tile img").nth(6)).to_be_visible()
        _shoot(page, folder / f"console-wall{'-dark' if dark else ''}.jpg")
    places = {"camera": "#/camera/assembly-1", "fleet": "#/fleet", "limits": "#/limits", "table": "#/table"}
    page = open_page(width=1280, height=1180)
    for name, place in places.items():
        page.set_viewport_size({"width": 1280, "height": 1180 if name == "camera" else 820})
        page.goto(console.url + place)
        page.wait_for_selector(
            {"camera": ".why li", "fleet": ".capacity", "limits": ".findings li", "table": "tbody a"}[name]
        )
        if name == "camera":
            expect(page.locator(".big img")).to_be_visible()
            page.wait_for_selector(".chart .series[d]")
        time.sleep(1.5)  # the page is at rest; only for the picture
        _shoot(page, folder / f"console-{name}.jpg")
    page = open_page(width=390, height=780)
    expect(page.locator(".tile img:visible").first).to_be_visible()
    _shoot(page, folder / "console-phone.jpg")
