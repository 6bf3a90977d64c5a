"""Simulated cameras as sources."""

import pytest
from support.publishing import encode, take

from worker.publish.simulated import SimulatedCamera
from worker.synthetic.spec import SyntheticSpec

START = 1_700_000_000.0


def test_a_simulated_camera_keeps_to_its_schedule() -> None:
    """Its capture times follow its frame rate, and determine the true number of hands of each frame."""
    camera = SimulatedCamera(SyntheticSpec(fps=5.0, jitter=0.3, seed=2), encode, paced=True, clock=lambda: START)
    frames = take(camera, 70)
    assert [frame.ts - START for frame in frames] == pytest.approx([index / 5 for index in range(70)], abs=0.061)
    truth = [camera.true_hands(frame.ts) for frame in frames]
    assert truth == [camera.true_hands(START + index / 5) for index in range(70)]
    assert len(set(truth)) > 1
