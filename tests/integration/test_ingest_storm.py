"""Cameras, their publisher, its list and Redis fail; ``python -m chaos --only-cameras`` does it for longer."""

import random
from pathlib import Path

import pytest

from chaos import camera_faults
from chaos.audit import publishing_flaws
from chaos.cameras import publishing


@pytest.mark.slow
def test_what_cameras_publish_is_exact_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every camera publishes again, each frame that is published is in the queue once, and no time goes back."""
    monkeypatch.setattr(camera_faults, "LONGEST_OUTAGE_S", 0.5)
    faults = (
        camera_faults.redis_is_killed,
        camera_faults.the_list_is_half_written,
        camera_faults.ingest_is_killed,
        camera_faults.the_list_is_a_pipe,
        camera_faults.cameras_die,
    )
    chance = random.Random(1)
    with publishing(tmp_path / "cameras") as cameras:
        cameras.await_frames()
        for fault in faults:
            fault(cameras, chance)
            cameras.await_frames()
        published = cameras.stop()
        assert published > 0
        assert publishing_flaws(cameras.frames, published, cameras.added()) == []
        assert cameras.ingest.says("can't be read: it is a pipe")
