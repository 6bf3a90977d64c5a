"""The laws of crops and cameras."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer.geometry import (  # noqa: E402
    Crops,
    blur_radius,
    blur_sigma,
    crop_to_frame,
    crops_of_boxes,
    frame_translations,
    project_to_crop,
    project_to_frame,
    rotations_from_6d,
    sample_crops,
    visible_columns,
)

ZEROS, ONES = torch.zeros(3), torch.ones(3)


def grey_levels(frame: np.ndarray, crops: Crops, **options: object) -> np.ndarray:
    """Returns crops that aren't normalised: (N, 3, h, w) RGB, 0 to 255."""
    return sample_crops(torch.from_numpy(frame), crops, ZEROS, ONES / 255, **options).numpy()


def crop_at(x: float, y: float, size: float, mirrored: bool = False) -> Crops:
    """Returns a single crop."""
    return Crops(np.array([[x, y]]), np.array([size]), np.array([mirrored]))


def gradient(width: int, height: int) -> np.ndarray:
    """Returns a frame whose blue is x and whose green is y."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width)
    frame[..., 1] = np.arange(height)[:, None]
    return frame


def test_index_128_is_the_centre():
    """A crop at the frame's own scale is the frame shifted by whole pixels, in RGB."""
    levels = grey_levels(gradient(256, 256), crop_at(140, 130, 256), columns=(0, 256))[0]
    assert levels[2, 0, 128] == 140
    assert levels[1, 128, 0] == 130
    assert levels[2, 0, 100:200].tolist() == list(range(112, 212))


def test_left_hands_are_mirrored_about_the_centre():
    """A left hand's crop is mirrored, and its centre is still at index 128."""
    levels = grey_levels(gradient(256, 256), crop_at(140, 130, 256, mirrored=True), columns=(0, 256))[0]
    assert levels[2, 0, 128] == 140
    assert levels[2, 0, 100:200].tolist() == list(range(168, 68, -1))


def test_only_the_middle_columns_are_returned():
    """By default the crop's outer eighths are cut off."""
    whole = grey_levels(gradient(200, 200), crop_at(90, 80, 120), columns=(0, 256))
    seen = grey_levels(gradient(200, 200), crop_at(90, 80, 120))
    assert visible_columns(256) == (32, 224)
    assert np.array_equal(seen, whole[..., 32:224])


def test_outside_is_black():
    """Pixels outside the frame are black, and so is a whole crop outside it."""
    white = np.full((100, 100, 3), 255, np.uint8)
    levels = grey_levels(white, crop_at(0, 50, 64))[0]
    assert levels[..., :80].max() == 0
    assert levels[..., 100:].min() == 255
    for size in (64.0, 2000.0):
        assert grey_levels(white, crop_at(-3000, 50, size)).max() == 0


@pytest.mark.parametrize(
    ("x", "y", "size"), [(200, 200, 300.0), (210, 190, 370.0), (350, 40, 175.0), (350, 40, 400.0), (30, 380, 900.0)]
)
def test_large_crops_are_blurred_as_a_whole_frame_would_be(x: float, y: float, size: float):
    """Blurring the crop's region alone has the same result as blurring the whole frame, also at its border."""
    frame = np.random.default_rng(0).integers(0, 256, (400, 420, 3), np.uint8)
    sigma = blur_sigma(size, 64)
    radius = blur_radius(sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    smooth = np.pad(frame.astype(float), ((radius, radius), (radius, radius), (0, 0)), "edge")
    smooth = sum(w * smooth[k : k + 400] for k, w in enumerate(kernel))
    smooth = sum(w * smooth[:, k : k + 420] for k, w in enumerate(kernel))
    steps = (np.arange(64) - 32) * size / 64
    xs, ys = x + steps, y + steps
    levels = grey_levels(frame, crop_at(x, y, size), image_size=64, columns=(0, 64))[0]
    inside = [(r, c) for r in range(64) for c in range(64) if 0 <= ys[r] < 399 and 0 <= xs[c] < 419]
    assert inside
    for r, c in inside:
        left, top = int(xs[c]), int(ys[r])
        fx, fy = xs[c] - left, ys[r] - top
        (nw, ne), (sw, se) = smooth[top : top + 2, left : left + 2]
        expected = (1 - fy) * ((1 - fx) * nw + fx * ne) + fy * ((1 - fx) * sw + fx * se)
        assert np.abs(levels[::-1, r, c] - expected).max() < 0.02


def test_small_crops_are_rounded_and_large_ones_are_not():
    """Sharp crops have whole grey levels, as 8-bit pictures do; blurred ones have fractions."""
    frame = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    sharp, blurred = (grey_levels(frame, crop_at(200.3, 150.2, size)) for size in (563.0, 564.0))
    assert np.abs(sharp - sharp.round()).max() < 1e-4
    assert np.abs(blurred - blurred.round()).max() > 0.1


def test_where_blur_begins():
    """Shrinking up to 2.2 times needs no blur; beyond that it grows, without effect below a radius of one pixel."""
    assert blur_sigma(563.2, 256) == 0
    assert blur_sigma(563.3, 256) == pytest.approx(0.05, abs=1e-3)
    assert blur_radius(blur_sigma(639.0, 256)) == 0
    assert blur_radius(blur_sigma(640.0, 256)) == 1
    assert blur_sigma(1141 + 1 / 3, 256) == pytest.approx(0.6146, abs=1e-4)


@given(st.lists(st.floats(-200, 900), min_size=4, max_size=4), st.booleans())
def test_crops_contain_their_boxes(numbers: list[float], is_right: bool):
    """The crop is centred on the box and its visible part shows twice the box in at least one direction."""
    x0, x1 = sorted(numbers[:2])
    y0, y1 = sorted(numbers[2:])
    crops = crops_of_boxes(np.array([[x0, y0, x1, y1]]), np.array([is_right]))
    assert crops.centers[0].tolist() == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2])
    shares = 2 * (x1 - x0) / 0.75, 2 * (y1 - y0)
    assert crops.sizes[0] == pytest.approx(max(shares))
    assert crops.mirrored[0] != is_right


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_six_numbers_make_a_rotation(numbers: list[float]):
    """Unless its columns are parallel, the matrix is orthonormal, right-handed, and keeps the first direction."""
    sixes = torch.tensor(numbers, dtype=torch.float64)
    if torch.linalg.cross(sixes[:3], sixes[3:]).norm() < 1e-3:
        return
    rotation = rotations_from_6d(sixes)
    assert torch.allclose(rotation.T @ rotation, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.linalg.det(rotation) == pytest.approx(1.0)
    assert torch.allclose(rotation[:, 0], sixes[:3] / sixes[:3].norm())


@settings(max_examples=50)
@given(
    st.floats(0.5, 2.0),
    st.floats(-0.3, 0.3),
    st.floats(-0.3, 0.3),
    st.floats(60, 600),
    st.booleans(),
    st.integers(0, 99),
)
def test_both_cameras_agree_on_flat_hands(s: float, tx: float, ty: float, size: float, mirrored: bool, seed: int):
    """The crop's camera and the frame's camera project points in the hand's own plane to the same pixel."""
    crops = crop_at(400.0, 300.0, size, mirrored)
    points = np.random.default_rng(seed).uniform(-0.1, 0.1, (1, 21, 3))
    points[..., 2] = 0
    camera = np.array([[s, tx, ty]])
    u = project_to_crop(torch.from_numpy(points), torch.from_numpy(camera), 5000.0, 256).numpy()
    by_crop = crop_to_frame(u, crops)
    focal = 5000 / 256 * 1280
    side = np.array([-1.0 if mirrored else 1.0, 1.0, 1.0])
    by_frame = project_to_frame(points * side, frame_translations(camera, crops, 1280, 720, focal), 1280, 720, focal)
    assert np.abs(by_crop - by_frame).max() < 1e-3


@pytest.mark.parametrize("shapes", [((2, 2), (1,), (1,)), ((1, 3), (1,), (1,)), ((1, 2), (1,), (2,))])
def test_crops_are_checked(shapes: tuple[tuple[int, ...], ...]):
    """Arrays of different lengths are refused with their shapes."""
    centers, sizes, mirrored = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"\(N, 2\), \(N,\), \(N,\)"):
        Crops(centers, sizes, mirrored.astype(bool))
