"""Annotated pictures of what was counted."""

import cv2
import numpy as np
import pytest

from worker import preview
from worker.hands.detection import Hands
from worker.picture import Picture
from worker.preview import MOST_PIXELS, Previews, encode
from worker.results import FrameResult

HAND = Hands(
    boxes=np.array([[200.0, 100.0, 1000.0, 600.0]], np.float32),
    is_right=np.array([True]),
    scores=np.array([0.9], np.float32),
    keypoints=np.full((1, 21, 2), np.nan, np.float32),
)


def result(stream_name: str = "cam", seconds: float = 100.0, picture: Picture | None = None) -> FrameResult:
    """A counted frame that took this long."""
    picture = np.full((720, 1280, 3), 90, np.uint8) if picture is None else picture
    height, width = picture.shape[:2]
    return FrameResult(stream_name, 1.0, "palm", "litert", width, height, HAND, 0.0, seconds, picture=picture)


class Clock:
    """Moves only as a test says."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (3840, 2160), (320, 240), (4000, 3)])
def test_a_preview_is_small(width: int, height: int) -> None:
    """It keeps the shape of the picture, and small pictures keep their size."""
    image = cv2.imdecode(np.frombuffer(encode(np.zeros((height, width, 3), np.uint8), HAND), np.uint8), 1)
    assert max(image.shape[:2]) == min(MOST_PIXELS, max(width, height))
    assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.01) or height < 10


def test_the_hands_are_drawn_where_they_are() -> None:
    """In the pixels of the preview."""
    image = cv2.imdecode(np.frombuffer(encode(result().picture, HAND), np.uint8), 1).astype(int)
    changed = np.abs(image - 90).max(axis=2) > 40
    ys, xs = np.nonzero(changed[60:])
    assert (xs.min(), xs.max()) == (pytest.approx(100, abs=6), pytest.approx(500, abs=6))
    assert (ys.max() + 60) == pytest.approx(300, abs=6)


def test_a_stream_has_one_preview_a_second() -> None:
    """Each for itself."""
    clock = Clock()
    previews = Previews(clock)
    assert previews.draw(result("a"))
    assert previews.draw(result("b"))
    clock.now += 0.99
    assert not previews.draw(result("a"))
    clock.now += 0.01
    assert previews.draw(result("a"))


def test_previews_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of that of the frames, however many streams there are."""
    clock = Clock()

    def slow(*_: object) -> bytes:
        clock.now += 0.002
        return b"jpeg"

    monkeypatch.setattr(preview, "encode", slow)
    previews = Previews(clock)
    picture = result().picture
    drawn = 0
    for i in range(10_000):
        clock.now += 0.01
        drawn += bool(previews.draw(result(f"camera-{i}", seconds=0.01, picture=picture)))
    assert drawn * 0.002 == pytest.approx(preview.SHARE * 10_000 * 0.01, rel=0.02)


def test_a_result_without_a_picture_has_no_preview() -> None:
    """It came as numbers."""
    assert Previews().draw(FrameResult("cam", 1.0, "palm", "litert", 1, 1, HAND, 0.0, 1.0)) == b""


def test_a_codec_that_fails_costs_only_the_preview() -> None:
    """The frame was counted."""
    assert encode(np.zeros((0, 10, 3), np.uint8), HAND) == b""
