"""The levels of effort."""

from itertools import pairwise

from worker.hands.effort import LEVELS, Effort


def test_each_level_does_more_than_the_one_before():
    """From fast to thorough a level searches every grid that the one before does, and at least one more."""
    assert list(LEVELS) == list(Effort)
    for less, more in pairwise(LEVELS.values()):
        assert set(less.palm_grids) <= set(more.palm_grids)
        assert set(less.person_grids) <= set(more.person_grids)
        assert (less.palm_grids, less.person_grids) != (more.palm_grids, more.person_grids)


def test_levels_without_poses_have_no_weights_for_them():
    """A weight for what isn't asked would only mislead."""
    for level in LEVELS.values():
        assert (level.weights.posed > 0) == (level.weights.visibility > 0) == bool(level.person_grids)
        assert level.min_palm <= level.min_palm_alone


def test_crops_need_poses():
    """Crops are around posed hands, and the whole picture comes first among the grids."""
    for level in LEVELS.values():
        assert level.person_grids or not level.crops
        assert level.palm_grids[0] == 1
