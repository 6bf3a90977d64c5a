"""One network on the device."""

import numpy as np
import pytest
import torch

from worker.hands.device.arena import Arena
from worker.hands.device.inputs import view_rows
from worker.hands.device.runner import MOST_ANCHORS, Runner
from worker.hands.geometry import View
from worker.hands.landmarks import LANDMARKS
from worker.hands.palm import PALMS

CPU = torch.device("cpu")


@pytest.fixture
def arena(pictures):
    """A picture of many hands."""
    arena = Arena(CPU, 2_000_000)
    arena.placed = arena.place(pictures["many"])
    return arena


def test_the_best_anchors_are_answered(models, arena):
    """Their number, log odds and numbers; the highest log odds first."""
    runner = Runner(PALMS, models.palm, arena, CPU)
    [rows] = runner.launch(view_rows(arena.placed, [View(0, 0, 1280, 720)], PALMS.size)).wait()
    assert rows.shape == (MOST_ANCHORS, 2 + PALMS.numbers)
    assert (np.diff(rows[:, 1]) <= 0).all()
    assert len(set(rows[:, 0])) == MOST_ANCHORS
    assert 0 < (rows[:, 1] > PALMS.min_logit).sum() < MOST_ANCHORS


def test_a_request_may_be_larger_than_a_batch(models, arena):
    """It is computed in parts."""
    runner = Runner(PALMS, models.palm, arena, CPU, buckets=(1, 2))
    rows = view_rows(arena.placed, [View(0, 0, 1280 - 100 * i, 720) for i in range(5)], PALMS.size)
    found = runner.launch(rows).wait()
    assert len(found) == 5
    np.testing.assert_allclose(found[4], runner.launch(rows[4:]).wait()[0], atol=2e-3)


def test_batches_become_smaller_when_memory_runs_out(models, arena, monkeypatch, caplog):
    """And everything is computed; later larger ones are tried again. A device without memory for a single input is an error."""
    runner = Runner(LANDMARKS, models.landmarks, arena, CPU, buckets=(1, 2, 4), recovery=10)
    fits, sizes = 2, []

    def compute(rows):
        sizes.append(len(rows))
        if len(rows) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return rows[:, :1].float()

    monkeypatch.setattr(runner, "compute", compute)
    rows = np.arange(5 * runner.columns, dtype=float).reshape(5, -1)
    np.testing.assert_array_equal(runner.launch(rows).wait(), rows[:, :1])
    assert sizes == [4, 2, 2, 1]
    assert [record.limit for record in caplog.records] == [2]
    assert runner.largest == 2
    fits = 4
    for _ in range(4):
        runner.launch(rows)
    assert (runner.largest, max(sizes[-3:])) == (4, 4)
    fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        runner.launch(rows)
