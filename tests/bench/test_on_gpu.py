"""The command for a machine with a GPU, without one: every part runs with small sizes on a CPU."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bench.gpu_load import mean_of  # noqa: E402
from bench.gpu_parts import PARTS, Setting  # noqa: E402
from bench.on_gpu import LIMITS_S, markdown, only, run_part  # noqa: E402

DRY = Setting("cpu", dry_run=True)


def test_each_part_has_a_limit() -> None:
    """And all of them together fit into a quarter of an hour, with the start of the machine."""
    assert set(LIMITS_S) == set(PARTS)
    assert sum(LIMITS_S.values()) <= 12 * 60


@pytest.mark.parametrize("name", PARTS)
def test_each_part_runs(name: str, tmp_path: Path) -> None:
    """It writes rows, and their numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        only(name, DRY, tmp_path / "part.json")
    finally:
        torch.set_num_threads(threads)
    written = json.loads((tmp_path / "part.json").read_text())
    assert written["rows"]
    assert [what for what, _ in written["rows"]] == list(written["figures"])
    assert not any("MISSED" in figure for _, figure in written["rows"])


def test_a_part_that_takes_too_long_spoils_no_other() -> None:
    """It is ended, and its row says so."""
    found = run_part("golden", dry_run=True, device="cpu", limit_s=0.05)
    assert found["error"] == "more than 0.05 s"
    parts = {"golden": found, "decoding": {"rows": [["720p", "600 frames/s"]], "seconds": 3.0}}
    assert markdown("a GPU", parts).splitlines()[4:] == [
        "| golden | | failed: more than 0.05 s |",
        "| decoding | 720p | 600 frames/s |",
    ]


@pytest.mark.parametrize(("told", "mean"), [("50\n100\n", 0.75), ("", None), ("[N/A]\n", None)])
def test_the_load_of_a_gpu(told: str, mean: float | None) -> None:
    """The mean of what nvidia-smi prints; None if it prints no numbers."""
    assert mean_of(told) == mean
