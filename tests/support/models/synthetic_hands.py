"""Hands drawn with OpenCV that the real models recognise, so that tests need no photos."""

import cv2
import numpy as np

SKIN = (140, 172, 224)  # BGR
BACKGROUND = (110, 96, 72)

# An open left hand with its palm towards the viewer, in units of the palm's width; the origin is the palm's middle, y
# points down.
PALM = [(-0.42, 0.5), (-0.5, -0.3), (-0.32, -0.52), (0.1, -0.56), (0.42, -0.46), (0.5, -0.1), (0.36, 0.5)]
FINGERS = [  # base, tip, radius
    ((-0.42, 0.18), (-0.98, -0.34), 0.13),
    ((-0.34, -0.42), (-0.48, -1.26), 0.115),
    ((-0.08, -0.48), (-0.12, -1.42), 0.12),
    ((0.18, -0.46), (0.26, -1.32), 0.11),
    ((0.4, -0.36), (0.58, -1.04), 0.095),
]
FOREARM = ((-0.02, 0.4), (0.0, 1.3), 0.3)
REACH = 1.8
"""Farther than any part is from the origin."""


def draw_hand(image, centre, width, angle=0.0, right=True):
    """Draws a hand into a BGR picture.

    Args:
        image: (H, W, 3) uint8; modified.
        centre: the palm's middle, x and y in pixels.
        width: the palm's width in pixels.
        angle: degrees, clockwise; 0 points up.
        right: whether it is an anatomical right hand, with the palm towards the viewer.

    Returns:
        The box of the hand without the forearm: x0, y0, x1, y1 in pixels.
    """
    # Only the part of the picture that the hand may reach.
    left, top = (max(0, int(middle - REACH * width)) for middle in centre)
    image = image[top : max(0, int(centre[1] + REACH * width)), left : max(0, int(centre[0] + REACH * width))]
    centre = centre[0] - left, centre[1] - top
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * width
    mirror = np.array([-1.0 if right else 1.0, 1.0])

    def place(points):
        return np.round((np.atleast_2d(points) * mirror) @ rotation.T + centre).astype(np.int32)

    def capsule(mask, start, end, radius):
        a, b = place(start)[0], place(end)[0]
        cv2.line(mask, a.tolist(), b.tolist(), 255, max(1, round(2 * radius * width)), cv2.LINE_AA)

    height, columns = image.shape[:2]
    whole, hand = np.zeros((height, columns), np.uint8), np.zeros((height, columns), np.uint8)
    capsule(whole, *FOREARM)
    parts = []
    for finger in FINGERS:
        part = np.zeros_like(whole)
        capsule(part, *finger)
        parts.append(part)
    palm = cv2.fillPoly(np.zeros_like(whole), [place(PALM)], 255, cv2.LINE_AA)
    for part in [palm, *parts]:
        hand = np.maximum(hand, part)
    for part in [whole, *parts, palm]:  # far to near, each shaded towards its rim
        x, y, w, h = cv2.boundingRect(part)
        near = np.s_[max(0, y - 3) : y + h + 3, max(0, x - 3) : x + w + 3]  # with its rim; the rest stays as it is
        depth = cv2.distanceTransform((part[near] > 127).astype(np.uint8), cv2.DIST_L2, 5) / (0.13 * width)
        shade = (0.62 + 0.38 * np.sqrt(np.clip(depth, 0, 1)))[..., None]
        alpha = (part[near] / 255.0)[..., None]
        image[near] = (image[near] * (1 - alpha) + np.array(SKIN) * shade * alpha).astype(np.uint8)
    crease = tuple(int(value * 0.62) for value in SKIN)
    for line in ([(-0.4, -0.2), (0.0, -0.12), (0.42, -0.26)], [(-0.42, -0.06), (0.05, 0.06), (0.3, 0.32)]):
        cv2.polylines(image, [place(line)], False, crease, max(1, round(0.03 * width)), cv2.LINE_AA)
    for base, tip, radius in FINGERS:
        for share in (0.36, 0.7):
            at = np.array(base) + share * (np.array(tip) - base)
            along = (np.array(tip) - base) / np.linalg.norm(np.array(tip) - base)
            across = np.array([-along[1], along[0]]) * radius * 0.8
            ends = place([at - across, at + across])
            cv2.line(image, ends[0].tolist(), ends[1].tolist(), crease, max(1, round(0.025 * width)), cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect((hand > 127).astype(np.uint8))
    return left + x, top + y, left + x + w, top + y + h


def scene(*hands, size=(640, 480)):
    """Returns a picture of `size` (width, height) with hands, each (centre, width, angle, right), and their boxes."""
    rows = (np.array(BACKGROUND) * np.linspace(0.85, 1.15, size[1])[:, None, None]).astype(np.uint8)
    image = np.repeat(rows, size[0], axis=1)
    return image, [draw_hand(image, *hand) for hand in hands]
