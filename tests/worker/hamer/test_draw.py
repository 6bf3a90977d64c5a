"""Hands drawn onto their frame."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from worker.hamer import draw  # noqa: E402
from worker.hamer.draw import AMBIENT, LIGHT, MESH_COLOUR, draw_meshes, paint_mesh  # noqa: E402
from worker.hamer.geometry import Crops, crops_of_boxes  # noqa: E402
from worker.hamer.poses import HandPoses  # noqa: E402
from worker.hamer.predictor import HamerPredictor  # noqa: E402

TETRAHEDRON = np.array(
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, -1.0]]
)  # its tip towards the camera


def painted(faces: list[list[int]], vertices: np.ndarray = TETRAHEDRON) -> np.ndarray:
    """Returns a mesh painted on black, 100 pixels to a metre."""
    image = np.zeros((120, 120, 3), np.uint8)
    paint_mesh(image, vertices, vertices[:, :2] * 100 + 10, np.array(faces))
    return image


def test_nearer_triangles_cover_farther_ones():
    """The front triangle is visible, whatever the order of the triangles."""
    back, front = [0, 2, 1], [0, 1, 3]
    one, other = painted([back, front]), painted([front, back])
    assert np.array_equal(one, other)
    alone = painted([front])
    inside = painted([front])[15:25, 30:60].any(axis=2)  # where the front triangle is
    assert np.array_equal(one[15:25, 30:60][inside], alone[15:25, 30:60][inside])


def test_light_falls_on_what_faces_it():
    """A triangle that faces the light has full brightness, one that faces the other way ambient light only."""
    side = np.cross(LIGHT, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    up = np.cross(LIGHT, side)
    facing = np.array([[0.0, 0.0, 0.0], side, up]) + np.array([0.4, 0.6, 0.0])
    lengths = np.linalg.norm(LIGHT)
    for face, brightness in (([0, 1, 2], 1.0), ([0, 2, 1], AMBIENT)):
        colours = painted([face], facing).reshape(-1, 3).max(axis=0)
        assert np.abs(colours - np.clip(MESH_COLOUR * brightness * lengths, 0, 255)).max() <= 4


def hands_at(depths: list[float], mirrored: list[bool]) -> HandPoses:
    """Returns hands whose mesh is a triangle facing the camera, in the middle of a frame of 200 x 200."""
    n = len(depths)
    sides = np.where(mirrored, -1.0, 1.0)[:, None, None]
    triangle = np.array([[-0.1, -0.1, 0.0], [-0.1, 0.1, 0.0], [0.1, 0.0, 0.0]])  # wound as a right hand's faces are
    return HandPoses(
        crops=Crops(np.full((n, 2), 100.0), np.full(n, 100.0), np.array(mirrored)),
        keypoints_2d=np.full((n, 21, 2), -1e6),
        keypoints_3d=np.zeros((n, 21, 3)),
        cameras=np.ones((n, 3)),
        translations=np.array([[0.0, 0.0, depth] for depth in depths]),
        focals=np.full(n, 1000.0),
        rotations=np.zeros((n, 16, 3, 3)),
        betas=np.zeros((n, 10)),
        spreads=np.ones(n),
        finite=np.ones(n, bool),
        vertices=triangle * np.concatenate([sides, np.ones_like(sides), np.ones_like(sides)], axis=2),
    )


FACE = np.array([[0, 1, 2]])


@pytest.fixture
def opaque(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meshes that hide what is behind them."""
    monkeypatch.setattr(draw, "MESH_OPACITY", 1.0)


@pytest.mark.usefixtures("opaque")
def test_left_hands_are_lit_as_right_ones_are():
    """Mirroring reverses a triangle's winding, but the light falls on the same side."""
    black = np.zeros((200, 200, 3), np.uint8)
    right, left = (draw_meshes(black, hands_at([2.0], [m]), FACE)[100, 100] for m in (False, True))
    facing = AMBIENT + (1 - AMBIENT) * -LIGHT[2]
    assert np.abs(right - MESH_COLOUR * facing).max() < 2
    assert right.tolist() == left.tolist()


@pytest.mark.usefixtures("opaque")
def test_nearer_hands_cover_farther_ones():
    """The nearer hand is drawn last, whatever the order of the hands."""
    white = np.full((200, 200, 3), 255, np.uint8)
    one, other = hands_at([2.0, 4.0], [False] * 2), hands_at([4.0, 2.0], [False] * 2)
    shapes = one.vertices.copy()
    shapes[1, :, 2] = [0.0, 0.0, 0.5]  # the farther hand is tilted, so it has another colour
    one, other = replace(one, vertices=shapes), replace(other, vertices=shapes[::-1])
    drawn = draw_meshes(white, one, FACE)
    assert np.array_equal(drawn, draw_meshes(white, other, FACE))
    assert drawn[100, 100].tolist() == draw_meshes(white, hands_at([2.0], [False]), FACE)[100, 100].tolist()


def test_golden_hands_are_drawn(golden: SimpleNamespace, predictor: HamerPredictor):
    """Meshes are drawn into a copy; the frame itself is unchanged. Without vertices, or hands, there is nothing to draw."""
    before = golden.image.copy()
    squares = crops_of_boxes(golden.boxes, golden.is_right)
    rows = predictor.engine.forward(predictor.crop(golden.image, squares).pixels)
    poses = predictor.poses(rows, squares, golden.image.shape[1], golden.image.shape[0])
    assert (draw_meshes(golden.image, poses, predictor.faces) != before).any()
    assert np.array_equal(golden.image, before)
    for nothing in (poses.select(np.zeros(4, bool)), replace(poses, vertices=None)):
        assert np.array_equal(draw_meshes(golden.image, nothing, predictor.faces), before)
