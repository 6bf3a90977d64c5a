"""Every bench can be imported and called; `make bench-quick` runs them."""

import importlib
import re
import sys

import pytest
from support.files import files

from bench.quick import NEEDS, QUICK
from bench.soak import slope_per_hour


def test_each_bench_has_a_short_run() -> None:
    """Every program in bench/ is listed, and every listed one exists."""
    programs = {path.stem for path in files("bench/*.py") if "argparse.ArgumentParser" in path.read_text()}
    assert {f"bench.{name}" for name in programs - {"quick"}} | {"fuzz", "chaos.thinning"} == set(QUICK)


@pytest.mark.parametrize("module", QUICK)
def test_each_bench_explains_itself(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It imports, --help works, and it has the options of its short run."""
    if module in NEEDS:
        pytest.importorskip(NEEDS[module])
    program = importlib.import_module("fuzz.__main__" if module == "fuzz" else module)
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as left:
        program.main()
    assert left.value.code == 0
    told = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    assert {option for option in QUICK[module] if option.startswith("--")} <= told


def test_a_slope_is_no_step() -> None:
    """Memory that grows steadily has a slope; a single step of the allocator has none."""
    line = [(float(at), 60.0 + at / 3600.0 * 5.0) for at in range(100)]
    step = [(float(at), 60.0 if at < 30 else 61.0) for at in range(100)]
    assert slope_per_hour(line) == pytest.approx(5.0)
    assert slope_per_hour(step) == 0.0
