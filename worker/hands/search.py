"""The search for hands in one picture: what is asked of the networks, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from worker.hands.candidate import Candidate
from worker.hands.crops import palm_views
from worker.hands.effort import Level
from worker.hands.geometry import RotatedSquare, View
from worker.hands.join import join, side_of
from worker.hands.landmarks import LANDMARKS
from worker.hands.looks import deserves_look, look_at_palms, look_at_posed_hands
from worker.hands.networks import Network, Steps
from worker.hands.palm import PALMS, search_palms
from worker.hands.persons import PERSONS, search_persons
from worker.hands.poses import MIN_FLAG, POSES, PosedHand, posed_hands, read_poses, square_of_person
from worker.hands.views import grid_views


def networks_of(level: Level) -> tuple[Network, ...]:
    """Returns the networks that a search at this level of effort asks."""
    return (PALMS, LANDMARKS, PERSONS, POSES) if level.person_grids else (PALMS, LANDMARKS)


def search(width: int, height: int, level: Level) -> Steps[list[Candidate]]:
    """Finds everything in a picture that may be a hand: persons and their poses, palms, then looks at each place.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        level: how much is done.

    Returns:
        Candidates with what each model says; often several per hand.
    """
    bodies, posed = yield from _posed(width, height, level)
    views = _palm_views(width, height, level, bodies, posed)
    palms = yield from search_palms(width, height, views, level.min_palm)
    deserving = [
        deserves_look(box, palm, posed, alone=level.min_palm_alone)
        for box, palm in zip(palms.boxes, palms.scores.tolist(), strict=True)
    ]
    found = yield from look_at_palms(palms[np.array(deserving, np.bool_)])
    joined = join(found, posed)
    unused = yield from look_at_posed_hands([hand for column, hand in enumerate(posed) if column not in joined])
    return [
        palm if column is None else _confirmed(palm, posed[column]) for palm, column in zip(found, joined, strict=True)
    ] + unused


def _posed(width: int, height: int, level: Level) -> Steps[tuple[list[RotatedSquare], list[PosedHand]]]:
    """Returns the crops of the persons in the picture that have a pose, and their hands."""
    if not level.person_grids:
        return [], []
    persons = yield from search_persons(width, height, _views(width, height, level.person_grids))
    squares = [square_of_person(points) for points in persons.points]
    poses = yield from read_poses(squares)
    bodies = [square for square, pose in zip(squares, poses, strict=True) if pose.flag >= MIN_FLAG]
    return bodies, posed_hands(poses)


def _palm_views(
    width: int, height: int, level: Level, bodies: Sequence[RotatedSquare], posed: Sequence[PosedHand]
) -> list[View]:
    if not level.crops:
        return _views(width, height, level.palm_grids)
    return palm_views(width, height, level.palm_grids, bodies, posed)


def _confirmed(palm: Candidate, hand: PosedHand) -> Candidate:
    """Returns a palm that a posed hand confirms."""
    return replace(palm, visibility=hand.visibility, right=side_of(palm, hand))


def _views(width: int, height: int, grids: tuple[int, ...]) -> list[View]:
    return [view for grid in grid_views(width, height, grids) for view in grid]
