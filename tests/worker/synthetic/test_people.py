"""Whole people in a simulated camera's frames."""

import functools
import random
from typing import Any

import cv2
import numpy as np
import pytest

from worker.picture import Picture
from worker.synthetic.camera import SyntheticCamera, background
from worker.synthetic.person import Person
from worker.synthetic.scene import SEGMENT_S
from worker.synthetic.spec import MAX_PEOPLE, SyntheticSpec


def camera(**properties) -> SyntheticCamera:
    """A whole-body view."""
    return SyntheticCamera(SyntheticSpec(**{"fps": 10.0, "seed": 3, "people": (0, 2), **properties}))


def test_people_have_two_hands_each() -> None:
    """Every number in the range occurs within a minute, and changes only between segments."""
    shown = camera()
    numbers = [shown.true_hands(index) for index in range(600)]
    assert set(numbers) == {0, 2, 4}
    assert all(index % int(SEGMENT_S * 10) == 0 for index in range(1, 600) if numbers[index] != numbers[index - 1])


def test_frames_do_not_depend_on_those_before() -> None:
    """A frame depends on the seed and its index alone."""
    one, other = camera(), camera()
    one.frame(590)
    np.testing.assert_array_equal(one.frame(120), other.frame(120))
    assert (one.frame(120) != camera(seed=4).frame(120)).any()


@functools.cache
def person_of(state: tuple[Any, ...]) -> Person:
    """The person that random numbers in this state lead to, whose hands are drawn once for all tests of where they are."""
    rng = random.Random()
    rng.setstate(state)
    return Person(rng)


@functools.cache
def empty_view(size: tuple[int, int]) -> Picture:
    """A frame without people."""
    return camera(people=(0, 0), size=size).frame(0)


@pytest.mark.parametrize("number", range(MAX_PEOPLE + 1))
@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (320, 640)])
def test_people_are_inside_their_columns(number: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody touches the border or another column, so nobody hides another's hands."""
    monkeypatch.setattr("worker.synthetic.people.Person", lambda rng: person_of(rng.getstate()))
    shown, empty = camera(people=(number, number), size=size), empty_view(size)
    for index in (0, 17, 95):
        changed = cv2.absdiff(shown.frame(index), empty).max(axis=2) > 0
        border = np.concatenate([changed[0], changed[-1], changed[:, 0], changed[:, -1]])
        assert not border.any()
        for column in range(1, number):
            assert not changed[:, round(column * size[0] / number)].any()
        assert changed.any() == (number > 0)


@functools.cache
def view_of_a_person(seed: int) -> tuple[Picture, Person]:
    """A background and who may be drawn into it."""
    rng = random.Random(seed)
    return background(rng, (800, 700)), Person(rng)


@pytest.mark.parametrize("height", [600, 150])
def test_hands_are_where_they_are_said_to_be(height: int) -> None:
    """Both hands are in skin colour, the right one on the left of the picture."""
    for seed in range(6):
        wall, person = view_of_a_person(seed)
        image = wall.copy()
        hands = person.draw(image, 400, 680, height)
        assert [hand.is_right for hand in sorted(hands, key=lambda hand: hand.x)] == [True, False]
        for hand in hands:
            found = image[round(hand.y) - 2 : round(hand.y) + 3, round(hand.x) - 2 : round(hand.x) + 3].mean(
                axis=(0, 1)
            )
            assert found[2] > found[0] + 20  # red beyond blue: no background or shirt is like that
