"""The parts of a running demo: real processes, without cameras."""

import os
import re
import signal
from pathlib import Path

import pytest
import redis
from support.waiting import wait_until

from worker.demo.options import DemoOptions
from worker.demo.processes import DemoError
from worker.demo.stage import Stage
from worker.hands.effort import Effort
from worker.hands.models import ModelPaths

OPTIONS = DemoOptions(redis_url=None, phase_seconds=2.0, effort=Effort.FAST, seed=1, models_dir=None, annotate=None)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("forked_programs")
def test_the_death_of_any_process_is_noticed(tmp_path: Path, models: ModelPaths) -> None:
    """The error names the process that died, and shows the end of its output; those that still run are stopped."""
    with Stage(tmp_path, OPTIONS, models_dir=models.palm.parent, check_interrupt=lambda: None) as stage:
        stage.start()
        stage.check()
        assert [child.name for child in stage.children] == ["valkey", "sidecar", "worker", "console"]
        *mortal, console = stage.children
        for child in reversed(mortal):  # the first one that has ended is named
            os.kill(child.pid, signal.SIGKILL)
            ended = re.escape(f"{child.name} has ended with exit code -9") + rf"\n(.*\n)*  {child.name}: "
            with pytest.raises(DemoError, match=ended):
                wait_until(child.check)
            with pytest.raises(DemoError, match=ended):
                stage.check()
            assert re.match(ended, str(stage.cause_of(redis.ConnectionError("broken"))))
    assert not Path(f"/proc/{console.pid}").exists()
