"""What is known of a hand: the one table of it. Pure.

`Hands` holds the detector's values and `HandPoses` HaMeR's, as arrays over the hands of a picture. The rows that HaMeR's
network fills and their unpacking (worker/hamer/rows.py), the JSON of results (worker/results.py) and the page about it
(ci/reference.py) follow from the table; tests compare the JSON's schema and the two classes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KEYPOINTS = 21
"""Joints per hand: the wrist, then thumb, index, middle, ring and little finger, each with four from root to tip."""

JOINTS = 16
"""Joints that MANO rotates: the wrist, and three for each finger."""

BETAS = 10
"""MANO's shape coefficients."""

VERTICES = -1
"""As many as the hand model has: MANO's are 778."""


class Source(StrEnum):
    """What yields a value."""

    DETECTOR = "the detector"
    NETWORK = "HaMeR's network"
    MESH = "HaMeR's network, with `--mesh`"
    CROP = "HaMeR's camera and the place of the crop in the frame"


class Unit(StrEnum):
    """What a number measures."""

    NONE = ""
    FLAG = "true or false"
    SHARE = "0 to 1"
    PIXELS = "pixels"
    METRES = "metres"
    DEVIATIONS = "standard deviations"


@dataclass(frozen=True, kw_only=True)
class Output:
    """One value of a hand."""

    name: str
    """Of the array, whose rows are the hands of a picture."""
    field: str = ""
    """In the JSON of results; empty if it isn't there."""
    shape: tuple[int, ...] = ()
    """Of one hand's value; VERTICES for a length that depends on the hand model."""
    unit: Unit
    decimals: int = 0
    """Of the numbers in results."""
    nullable: bool = False
    """Whether a hand may have none: NaN in the array, null in results."""
    source: Source
    meaning: str


OUTPUTS = (
    Output(
        name="boxes", field="box", shape=(4,), unit=Unit.PIXELS, decimals=2, source=Source.DETECTOR,
        meaning="x0, y0, x1, y1 of the box around the joints, wrist to finger tips; x to the right and y down",
    ),
    Output(
        name="is_right", field="is_right", unit=Unit.FLAG, source=Source.DETECTOR,
        meaning="whether it is the person's own right hand, if the picture isn't mirrored",
    ),
    Output(
        name="scores", field="score", unit=Unit.SHARE, decimals=4, source=Source.DETECTOR,
        meaning="the confidence that this is a hand",
    ),
    Output(
        name="keypoints", field="keypoints", shape=(KEYPOINTS, 2), unit=Unit.PIXELS, decimals=2, nullable=True,
        source=Source.DETECTOR,
        meaning="x, y of the wrist, then of thumb, index, middle, ring and little finger, four joints each from root to tip; "
        "null if the detector doesn't trust them; with HaMeR they are HaMeR's",
    ),
    Output(
        name="keypoints_3d", field="joints_3d", shape=(KEYPOINTS, 3), unit=Unit.METRES, decimals=5, source=Source.NETWORK,
        meaning="x, y, z of the same joints, relative to the hand: x right, y down, z forward; plus `translation` they are "
        "in the camera's frame",
    ),
    Output(
        name="cameras", field="camera", shape=(3,), unit=Unit.NONE, decimals=5, source=Source.NETWORK,
        meaning="s, tx, ty of the weak perspective camera of the hand's crop",
    ),
    Output(
        name="translations", field="translation", shape=(3,), unit=Unit.METRES, decimals=5, source=Source.CROP,
        meaning="the hand's place in a camera of the whole picture with the focal length `focal`; in metres only if that is "
        "the true focal length",
    ),
    Output(
        name="focals", field="focal", unit=Unit.PIXELS, decimals=2, source=Source.CROP,
        meaning="the focal length of that camera, by HaMeR's convention: 5000/256 of the picture's longer side",
    ),
    Output(
        name="rotations", shape=(JOINTS, 3, 3), unit=Unit.NONE, source=Source.NETWORK,
        meaning="MANO's rotations of wrist and fingers, without a mean pose, of the right hand that the network saw",
    ),
    Output(
        name="betas", shape=(BETAS,), unit=Unit.DEVIATIONS, source=Source.NETWORK,
        meaning="MANO's shape coefficients",
    ),
    Output(
        name="keypoints_2d", shape=(KEYPOINTS, 2), unit=Unit.PIXELS, source=Source.NETWORK,
        meaning="the projected joints, (0, 0) at the centre of the first pixel; `keypoints` are half a pixel further",
    ),
    Output(
        name="spreads", unit=Unit.NONE, source=Source.NETWORK,
        meaning="sine of the angle between the two columns of the least certain rotation; near 0 that rotation is arbitrary",
    ),
    Output(
        name="vertices", field="vertices", shape=(VERTICES, 3), unit=Unit.METRES, decimals=5, source=Source.MESH,
        meaning="x, y, z of the mesh's vertices, in the frame of `joints_3d`",
    ),
)  # fmt: skip
"""In the order of the fields of a result."""

DETECTED = tuple(output for output in OUTPUTS if output.source is Source.DETECTOR)
"""What `Hands` holds."""

REFINED = tuple(output for output in OUTPUTS if output.source is not Source.DETECTOR)
"""What `HandPoses` holds."""

COMPUTED = tuple(output for output in OUTPUTS if output.source in (Source.NETWORK, Source.MESH))
"""What lies in the rows of HaMeR's network."""

WRITTEN = tuple(output for output in OUTPUTS if output.field)
"""What results have."""
