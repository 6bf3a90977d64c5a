"""Draws the meshes of refined hands onto their frame, with simple shading.

A hand has about 1,500 triangles: OpenCV paints them from back to front in milliseconds, without a renderer.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.hamer.geometry import project_to_frame
from worker.hamer.poses import HandPoses
from worker.hands.draw import SHIFT, fixed_point

MESH_COLOUR = np.array([205.0, 190.0, 170.0])  # BGR, where the light is perpendicular
LIGHT = np.array([0.3, -0.5, -0.81])  # from the camera's side, above and to the right; y points down
AMBIENT = 0.35
MESH_OPACITY = 0.75


def draw_meshes(image: NDArray[np.uint8], poses: HandPoses, faces: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Returns a copy of the frame with the hands' meshes drawn onto it; nearer hands cover farther ones.

    Args:
        image: (H, W, 3) uint8, BGR: the poses' frame.
        poses: HaMeR's hands; without vertices nothing is drawn.
        faces: (F, 3) triangles of a right hand's vertices.
    """
    drawn = image.copy()
    if poses.vertices is None:
        return drawn
    height, width = image.shape[:2]
    for n in np.argsort(-poses.translations[:, 2]):
        vertices = poses.vertices[n]
        focal = float(poses.focals[n])
        pixels = project_to_frame(vertices[None], poses.translations[n : n + 1], width, height, focal)[0]
        wound = faces[:, [0, 2, 1]] if poses.crops.mirrored[n] else faces
        painted = drawn.copy()
        paint_mesh(painted, vertices, pixels, wound)
        cv2.addWeighted(painted, MESH_OPACITY, drawn, 1 - MESH_OPACITY, 0, dst=drawn)
    return drawn


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
    corners = fixed_point(pixels[faces])  # (F, 3, 2)
    for face in np.argsort(-triangles[:, :, 2].mean(axis=1)):
        cv2.fillConvexPoly(image, corners[face], colours[face].tolist(), cv2.LINE_AA, SHIFT)
