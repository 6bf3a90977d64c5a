"""The detector as a whole, on synthetic hands."""

import threading

import cv2
import numpy as np
import pytest
from support.models.synthetic_hands import scene

from worker.hands.detector import PalmLandmarkDetector
from worker.hands.effort import Effort
from worker.hands.litert_engine import LiteRtEngine

ONE = ((320, 260), 110, 0, True)
PAIR = (((200, 260), 100, 0, True), ((450, 260), 100, 0, False))


def overlap(a, b):
    """Returns the intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def assert_finds(hands, truth, sides=None):
    """Asserts that there is one detection for each true box, and no other."""
    assert len(hands) == len(truth)
    left = list(range(len(hands)))
    for number, box in enumerate(truth):
        best = max(left, key=lambda row: overlap(hands.boxes[row], box))
        left.remove(best)
        assert overlap(hands.boxes[best], box) > 0.5  # the joints end inside the fingers, the true box at their outline
        if sides is not None:
            assert hands.is_right[best] == sides[number]


@pytest.mark.parametrize("angle", [0, 45, 90, 180, -120])
def test_a_large_and_a_small_hand(detector, angle):
    """Each is found once, whichever way it points, with its side, joints and a high score."""
    image, boxes = scene(((220, 250), 110, angle, True), ((530, 250), 45, angle, True))
    hands = detector.detect(image)
    assert_finds(hands, boxes, [True, True])
    assert hands.scores.min() > 0.8
    assert np.isfinite(hands.keypoints).all()
    for joints, (x0, y0, x1, y1) in zip(hands.keypoints, hands.boxes, strict=True):
        assert (joints >= [x0 - 1, y0 - 1]).all()
        assert (joints <= [x1 + 1, y1 + 1]).all()


def test_flipping_the_picture_swaps_the_sides(detector):
    """In a mirrored picture a right hand is a left one, at the mirrored place."""
    image, boxes = scene(*PAIR)
    assert_finds(detector.detect(image), boxes, [True, False])
    flipped = [(640 - x1, y0, 640 - x0, y1) for x0, y0, x1, y1 in boxes]
    assert_finds(detector.detect(np.ascontiguousarray(image[:, ::-1])), flipped, [False, True])


def test_hands_side_by_side_are_two(detector):
    """Hands whose fingers touch aren't merged."""
    image, boxes = scene(((250, 260), 80, 0, True), ((400, 260), 80, 0, False))
    assert overlap(*boxes) == 0 or boxes[0][2] > boxes[1][0] - 60
    assert_finds(detector.detect(image), boxes, [True, False])


def test_the_surest_hand_comes_first(detector):
    """Hands are sorted by score."""
    image, _ = scene(((120, 300), 90, 0, True), ((330, 300), 45, 15, False), ((520, 300), 90, -15, True))
    scores = detector.detect(image).scores
    assert len(scores) == 3
    assert list(scores) == sorted(scores, reverse=True)


@pytest.mark.parametrize("x", [300, 320, 346])
def test_a_hand_at_a_tiles_border_is_counted_once(detector, x):
    """The tiles of a picture 640 pixels wide end at 346 and begin at 294: a hand there is counted once."""
    for width in (60, 130):
        image, boxes = scene(((x, 250), width, 10, True))
        assert_finds(detector.detect(image), boxes)


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (480, 640), (641, 479), (1920, 1080)])
def test_picture_sizes(detector, size):
    """Hands are found in landscape, portrait, odd and large pictures."""
    width = size[1] // 7
    image, boxes = scene(((size[0] // 3, size[1] // 2), width, 0, True), size=size)
    assert_finds(detector.detect(image), boxes)


def test_more_tiles_find_smaller_hands(fast_detector, thorough_detector):
    """A hand that is too small for the tiles of `fast` is found in those of `thorough`."""
    image, boxes = scene(((500, 700), 26, 0, True), size=(1920, 1080))
    assert len(fast_detector.detect(image)) == 0
    assert_finds(thorough_detector.detect(image), boxes)


def test_the_box_of_a_hand_at_the_border_is_clipped(detector):
    """Boxes end at the picture's border."""
    image, _ = scene(((600, 300), 110, 0, True))
    hands = detector.detect(image)
    assert len(hands) == 1
    assert hands.boxes[0, 2] <= 640


@pytest.mark.parametrize("kind", ["black", "white", "grey", "noise", "checkers", "gradient"])
def test_pictures_without_hands(detector, kind):
    """Pictures without hands have no detections."""
    rng = np.random.default_rng(3)
    image = {
        "black": np.zeros((480, 640, 3), np.uint8),
        "white": np.full((480, 640, 3), 255, np.uint8),
        "grey": np.full((480, 640, 3), 128, np.uint8),
        "noise": rng.integers(0, 256, (480, 640, 3), np.uint8),
        "checkers": np.kron(np.indices((12, 16)).sum(axis=0) % 2, np.ones((40, 40)))[..., None].repeat(3, -1) * 255,
        "gradient": np.linspace(0, 255, 640)[None, :, None].repeat(480, 0).repeat(3, -1),
    }[kind].astype(np.uint8)
    hands = detector.detect(image)
    assert len(hands) == 0
    assert hands.keypoints.shape == (0, 21, 2)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (2, 700), (700, 2), (191, 193), (241, 240)])
def test_odd_pictures_do_not_crash(detector, shape):
    """The smallest and thinnest pictures, and odd sizes, are processed like any other."""
    assert len(detector.detect(np.full((*shape, 3), 90, np.uint8))) == 0


def test_a_view_of_a_larger_array(detector):
    """A picture may be non-contiguous in memory."""
    image, boxes = scene(ONE)
    wide = np.zeros((480, 1280, 3), np.uint8)
    wide[:, 300:940] = image
    assert_finds(detector.detect(wide[:, 300:940]), boxes)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((0, 640, 3), np.uint8),
    ],
)
def test_wrong_arrays_are_refused(detector, image):
    """A wrong shape or type is an error with the expected one."""
    with pytest.raises(ValueError, match=r"must be uint8\[H, W, 3\]"):
        detector.detect(image)


@pytest.mark.parametrize("min_score", [1.5, -0.1, float("nan")])
def test_wrong_settings_are_refused(litert, min_score):
    """Settings out of range are an error at once."""
    with pytest.raises(ValueError, match="must be"):
        PalmLandmarkDetector(litert, min_score=min_score)


@pytest.mark.parametrize("effort", Effort)
def test_the_effort_is_in_the_name(litert, effort):
    """Results name the level that found the hands."""
    assert PalmLandmarkDetector(litert, effort=effort).name == f"palm-{effort.value}"


def test_min_score(litert, detector):
    """Hands below the lowest score are dropped."""
    image, _ = scene(ONE)
    score = float(detector.detect(image).scores[0])
    assert len(PalmLandmarkDetector(litert, min_score=min(1.0, score + 0.01)).detect(image)) == 0


def test_threads_may_share_a_detector(models):
    """Calls from several threads find the same hands as calls from one."""
    detector = PalmLandmarkDetector(LiteRtEngine(models))
    size = (236, 180)  # a single view
    one, pair = [((118, 90), 40, 0, True)], [((70, 100), 38, 0, True), ((170, 100), 38, 0, False)]
    pictures = [scene(*hands, size=size)[0] for hands in (one, pair, [])]
    alone = [detector.detect(picture) for picture in pictures]
    assert [len(hands) for hands in alone] == [1, 2, 0]
    wrong = []

    def work(offset):
        for step in range(2):
            which = (offset + step) % 3
            if not np.array_equal(detector.detect(pictures[which]).boxes, alone[which].boxes):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not wrong


@pytest.mark.parametrize("quality", [30, 90])
def test_hands_in_a_cameras_pictures(detector, quality):
    """Hands are found in spite of JPEG, a little blur and noise."""
    image, boxes = scene(*PAIR)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(noisy, (0, 0), 1.0)
    _, jpeg = cv2.imencode(".jpg", blurred, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert_finds(detector.detect(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)), boxes)
