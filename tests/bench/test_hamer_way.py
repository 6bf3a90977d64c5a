"""The way of a frame from its JPEG to its result: the plain one makes the same crops, and the table has every stage."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.hamer_way import STAGES, milliseconds, plain_crop, table  # noqa: E402
from worker.hamer.geometry import crops_of_boxes, sample_crops  # noqa: E402

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


@pytest.mark.parametrize("side", [90, 400])
def test_the_plain_crop_is_ours(side: int) -> None:
    """Of right and left hands, sharp and blurred, within the rounding of OpenCV's weights."""
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    squares = crops_of_boxes(np.array([[300, 200, 300 + side, 200 + side]] * 2, float), np.array([True, False]))
    ours = sample_crops(torch.from_numpy(image), squares, torch.from_numpy(MEAN), torch.from_numpy(STD))
    for n in range(2):
        plain = plain_crop(image, squares[np.array([n])], MEAN, STD)
        assert plain.shape == (1, 3, 256, 192)
        grey_levels = (plain[0] - ours[n]).abs() * 255 * torch.from_numpy(STD)[:, None, None]
        assert grey_levels.mean() < 0.5


def test_every_stage_is_timed() -> None:
    """In order, with what the one before returned, and one round more to warm up; the table has a row for each, and for all."""
    seen: list[tuple[str, str]] = []

    def stage(name: str):
        return lambda value: seen.append((name, value)) or name

    ways = {way: {name: stage(name) for name in STAGES} for way in ("plain", "ours")}
    found = milliseconds(ways, "jpeg", 2, lambda: None)  # type: ignore[arg-type]
    assert seen == list(zip(STAGES, ("jpeg", *STAGES[:-1]), strict=True)) * 6
    lines = table(found)
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in (*STAGES, "all")]
    assert lines[0] == "| ms a frame with 2 hands | plain | ours |"
