"""Draws refined hands onto their frame: the skeleton, and the mesh with simple shading.

A hand has about 1,500 triangles: OpenCV paints them from back to front in milliseconds, without a renderer.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hamer.geometry import project_to_frame
from worker.hamer.poses import HandPoses

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""Joints of thumb to little finger, root to tip; joint 0 is the wrist."""

FINGER_COLOURS = ((60, 60, 230), (40, 150, 240), (60, 190, 60), (220, 160, 40), (210, 70, 170))  # BGR
MESH_COLOUR = np.array([205.0, 190.0, 170.0])  # BGR, where the light is perpendicular
LIGHT = np.array([0.3, -0.5, -0.81])  # from the camera's side, above and to the right; y points down
AMBIENT = 0.35
MESH_OPACITY = 0.75
SHIFT = 3  # OpenCV takes coordinates in eighths of a pixel


def draw_hands(
    image: NDArray[np.uint8], poses: HandPoses, faces: NDArray[np.integer] | None = None
) -> NDArray[np.uint8]:
    """Returns a copy of the frame with the hands drawn onto it; nearer hands cover farther ones.

    Args:
        image: (H, W, 3) uint8, BGR: the poses' frame.
        poses: HaMeR's hands.
        faces: (F, 3) triangles of a right hand's vertices. Meshes are drawn if both these and the vertices are given.
    """
    drawn = image.copy()
    for n in np.argsort(-poses.translations[:, 2]):
        if poses.vertices is not None and faces is not None:
            height, width = image.shape[:2]
            vertices = poses.vertices[n]
            pixels = project_to_frame(vertices[None], poses.translations[n : n + 1], width, height, poses.focal)[0]
            wound = faces[:, [0, 2, 1]] if poses.crops.mirrored[n] else faces
            painted = drawn.copy()
            paint_mesh(painted, vertices, pixels, wound)
            cv2.addWeighted(painted, MESH_OPACITY, drawn, 1 - MESH_OPACITY, 0, dst=drawn)
        draw_skeleton(drawn, poses.keypoints_2d[n])
    return drawn


def draw_skeleton(image: NDArray[np.uint8], joints: NDArray[np.floating]) -> None:
    """Draws 21 joints (21, 2), in pixels, and the bones between them into the image."""
    span = float(np.ptp(joints, axis=0).max())
    thickness = max(1, round(span / 80))
    for finger, colour in zip(FINGERS, FINGER_COLOURS, strict=True):
        points = _fixed(joints[[0, *finger]])
        cv2.polylines(image, [points], False, colour, thickness, cv2.LINE_AA, SHIFT)
        for x, y in points[1:]:
            cv2.circle(image, (int(x), int(y)), thickness << SHIFT, colour, cv2.FILLED, cv2.LINE_AA, SHIFT)


def paint_mesh(
    image: NDArray[np.uint8],
    vertices: NDArray[np.floating],
    pixels: NDArray[np.floating],
    faces: NDArray[np.integer],
) -> None:
    """Paints a shaded mesh into the image, the farthest triangles first (the painter's algorithm).

    Args:
        image: (H, W, 3) uint8, BGR.
        vertices: (V, 3) metres, z away from the camera.
        pixels: (V, 2) their pixels.
        faces: (F, 3) triangles, wound so that normals point outwards.
    """
    triangles = vertices[faces]  # (F, 3, 3)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.maximum(lengths, 1e-12)
    # Lambert: brightness by the angle to the light. The inside, visible through the open wrist, has ambient light only.
    brightness = AMBIENT + (1 - AMBIENT) * np.clip(normals @ LIGHT, 0, 1)
    colours = np.clip(brightness[:, None] * MESH_COLOUR, 0, 255)
    corners = _fixed(pixels[faces])  # (F, 3, 2)
    for face in np.argsort(-triangles[:, :, 2].mean(axis=1)):
        cv2.fillConvexPoly(image, corners[face], colours[face].tolist(), cv2.LINE_AA, SHIFT)


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Converts pixels to OpenCV's fixed-point numbers, clipped to their range."""
    return np.clip(np.round(points * (1 << SHIFT)), -(2**26), 2**26).astype(np.int32)
