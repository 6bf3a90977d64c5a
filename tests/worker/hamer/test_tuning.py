"""Which attention kernel and whether the compiler: measured on a device with graphs, and kept for the next start."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends  # noqa: E402

from worker.hamer import tuning  # noqa: E402
from worker.hamer.checkpoint import load_hamer  # noqa: E402
from worker.hamer.engine import Engine  # noqa: E402
from worker.hamer.errors import CompileError  # noqa: E402
from worker.hamer.modeling.hamer import Hamer  # noqa: E402
from worker.hamer.refiner import HamerRefiner  # noqa: E402
from worker.hamer.streams import HostStreams  # noqa: E402
from worker.hamer.tuning import Compile, Tuning, block_seconds, choose, compile_blocks, tune  # noqa: E402
from worker.hamer.tuning_cache import TuningCache  # noqa: E402

EAGER = {"torch": 2.0, "cudnn": 1.0, "flash": 1.5, "efficient": 3.0}


class Measured:
    """Ways whose seconds are given, or which raise an error; the clock goes on by them."""

    def __init__(self, compiled: float | Exception, **eager: float | Exception) -> None:
        self.compiled, self.eager = compiled, EAGER | eager
        self.tried: list[str] = []
        self.now = 0.0

    def __call__(self, way: Tuning) -> float:
        self.tried.append(str(way))
        seconds = self.compiled if way.compiled else self.eager[way.attention]
        if isinstance(seconds, Exception):
            raise seconds
        self.now += seconds
        return seconds

    def clock(self) -> float:
        return self.now


BROKEN = RuntimeError("no C compiler\nand more")


@pytest.mark.parametrize(
    ("mode", "measured", "chosen", "tried"),
    [
        (Compile.OFF, Measured(0.1), Tuning("cudnn"), 4),
        (Compile.AUTO, Measured(0.9), Tuning("cudnn", compiled=True), 5),
        (Compile.AUTO, Measured(0.99), Tuning("cudnn"), 5),
        (Compile.AUTO, Measured(BROKEN), Tuning("cudnn"), 5),
        (Compile.AUTO, Measured(0.9, efficient=40.0), Tuning("cudnn"), 4),  # no time is left
        (Compile.AUTO, Measured(0.9, cudnn=BROKEN), Tuning("flash", compiled=True), 5),
        (Compile.AUTO, Measured(0.9, **dict.fromkeys(EAGER, BROKEN)), Tuning(compiled=True), 5),
        (Compile.AUTO, Measured(BROKEN, **dict.fromkeys(EAGER, BROKEN)), Tuning(), 5),
        (Compile.ON, Measured(1.5), Tuning("cudnn", compiled=True), 5),
        (Compile.ON, Measured(1.5, efficient=40.0), Tuning("cudnn", compiled=True), 5),
    ],
)
def test_the_fastest_way_is_chosen(mode: Compile, measured: Measured, chosen: Tuning, tried: int):
    """The compiler is tried with the fastest kernel, while there is time, and taken if it is clearly faster; or if it must."""
    way, seconds = choose(mode, measured, clock=measured.clock)
    assert way == chosen
    assert len(measured.tried) == tried
    assert len(seconds) == tried - sum(isinstance(each, RuntimeError) for each in measured.eager.values()) - (
        tried == 5 and isinstance(measured.compiled, RuntimeError)
    )


def test_a_compiler_that_must_work_and_fails():
    """Is an error at the start, with the first line of the reason."""
    with pytest.raises(CompileError, match=r"^torch.compile fails: RuntimeError: no C compiler$"):
        choose(Compile.ON, Measured(BROKEN))


@pytest.mark.parametrize("mode", [Compile.AUTO, Compile.ON])
@pytest.mark.parametrize("which", ["compiled", "flash"])
def test_a_device_that_is_lost_meanwhile(mode: Compile, which: str):
    """No way works any more; it isn't a property of one."""
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(torch.AcceleratorError):
        choose(mode, Measured(**{"compiled": 1.0, which: lost}))


class Graphs(HostStreams):
    """A CPU that says that it has graphs."""

    has_graphs = True


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """The seconds of the ways of the network's first block."""
    found = Measured(2.0)
    monkeypatch.setattr(tuning, "block_seconds", lambda _model, _streams, way, _batch: found(way))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "elsewhere")
    return found


def tuned(model: Hamer, folder: Path | None, **options: Any) -> Tuning:
    return tune(model, Graphs(), **{"batch": 4, "mode": Compile.AUTO, "folder": folder} | options)


def test_the_answer_is_kept(model: Hamer, measured: Measured, tmp_path: Path):
    """The next start on the same device with the same torch and sizes measures nothing; another mode or batch does."""
    folder = tmp_path / "cache" / "tuning"
    assert tuned(model, folder) == Tuning("cudnn") == tuned(model, folder)
    assert len(measured.tried) == 5
    tuned(model, folder, mode=Compile.OFF)
    assert len(measured.tried) == 9
    tuned(model, folder, batch=8)
    assert len(measured.tried) == 14
    kept = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(kept) == 3
    assert kept[0]["chosen"] == {"attention": "cudnn", "compiled": False}
    assert kept[0]["microseconds"]["torch"] == 2e6
    assert {"device", "torch", "weights"} < kept[0]["about"].keys()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"about": 1, "chosen": 2}'])
def test_an_answer_that_cannot_be_read(model: Hamer, measured: Measured, tmp_path: Path, text: str):
    """It is measured again, and replaced."""
    tuned(model, tmp_path)
    (path,) = tmp_path.glob("*.json")
    good = path.read_text()
    path.write_text(text)
    tuned(model, tmp_path)
    assert len(measured.tried) == 10
    assert path.read_text() == good
    path.write_text(good.replace("cudnn", "unknown"))
    assert tuned(model, tmp_path) == Tuning("cudnn")
    assert len(measured.tried) == 15


def test_a_folder_that_cannot_be_written(
    model: Hamer, measured: Measured, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Each start measures, and says why; without a folder it says nothing."""
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert tuned(model, tmp_path / "file" / "tuning") == Tuning("cudnn")
        assert {record.reason for record in caplog.records} == {"Not a directory"}
        caplog.clear()
        assert tuned(model, None) == Tuning("cudnn")
    assert caplog.records == []
    assert len(measured.tried) == 10


def test_the_lock_is_free_afterwards(tmp_path: Path):
    """Processes that start together measure one after the other."""
    cache = TuningCache(tmp_path, {})
    for _ in range(2):
        with cache.locked():
            assert cache.get() is None


def test_a_cpu_measures_nothing(golden: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """So that the first result isn't late; its blocks are compiled if the user says so."""
    monkeypatch.setattr(tuning, "block_seconds", None)
    compiled: list[Any] = []
    monkeypatch.setattr(tuning, "compile_blocks", compiled.append)
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    HamerRefiner.load(golden.checkpoint, device="cpu", tuning_folder=tmp_path).close()
    assert (compiled, "TRITON_CACHE_DIR" in os.environ) == ([], False)
    refiner = HamerRefiner.load(golden.checkpoint, device="cpu", mode=Compile.ON, tuning_folder=tmp_path)
    refiner.close()
    assert compiled == [refiner.predictor.engine.model]
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")
    assert not list(tmp_path.iterdir())


def test_a_compiled_way_compiles_all_blocks(
    golden: SimpleNamespace, measured: Measured, monkeypatch: pytest.MonkeyPatch
):
    """Each by its own; the copy in bfloat16 isn't compiled, because overflows are rare."""
    calls: list[Callable[..., Any]] = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: calls.append(call) or call)
    measured.compiled = 0.5
    model = load_hamer(golden.checkpoint)
    assert tuned(model, None) == Tuning("cudnn", compiled=True)
    assert len(calls) == len(model.backbone.blocks) == 2


@pytest.mark.parametrize("compiled", [False, True])
def test_a_block_is_measured_as_it_will_run(model: Hamer, monkeypatch: pytest.MonkeyPatch, compiled: bool):
    """A warm-up, then some rounds of runs, with the attention kernel, whose median counts."""
    kernels: list[list[SDPBackend]] = []
    block = model.backbone.blocks[0]
    monkeypatch.setattr(torch, "compile", lambda call: call)
    hook = block.register_forward_pre_hook(lambda *_: kernels.append(_cur_sdpa_kernel_backends()))
    ticks = iter([0.0, 1.0, 2.0, 5.0, 6.0, 8.0])
    with torch.inference_mode():
        seconds = block_seconds(model, HostStreams(), Tuning("flash", compiled), 1, lambda: next(ticks))
    hook.remove()
    assert seconds == pytest.approx(2.0 / tuning.RUNS)
    assert len(kernels) == 1 + tuning.RUNS * tuning.ROUNDS
    assert kernels[0] == [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def test_the_engine_uses_the_kernel(golden: SimpleNamespace):
    """Inside, and nowhere else; the numbers are the same within rounding."""
    model = load_hamer(golden.checkpoint)
    crops = torch.from_numpy(golden.crops["img"])[..., 32:224].contiguous()
    engine, usual = Engine(model), _cur_sdpa_kernel_backends()
    expected = engine.forward(crops)
    engine.tuning = Tuning("efficient")
    seen: list[list[SDPBackend]] = []
    model.backbone.blocks[0].register_forward_pre_hook(lambda *_: seen.append(_cur_sdpa_kernel_backends()))
    assert np.abs(engine.forward(crops) - expected).max() < 1e-4
    assert seen == [[SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]]
    assert usual == _cur_sdpa_kernel_backends()


def test_blocks_are_compiled_in_place(golden: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    """Their weights and names stay what they are."""
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    model = load_hamer(golden.checkpoint)
    names = [name for name, _ in model.named_parameters()]
    compile_blocks(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(block._compiled_call_impl is not None for block in model.backbone.blocks)
