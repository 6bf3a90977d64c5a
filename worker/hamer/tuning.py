"""How the backbone's blocks run fastest on this device: with which attention kernel, and compiled or not. Measured once.

The blocks are alike, so one of them stands for all, and takes milliseconds. The compiler takes time: seconds for each of three
kinds of batches (the largest, one crop, all others), because the blocks share its code.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.hamer.errors import CompileError, is_device_lost
from worker.hamer.modeling.hamer import Hamer
from worker.hamer.modeling.vit import Block
from worker.hamer.streams import Streams
from worker.hamer.tuning_cache import TuningCache

logger = logging.getLogger(__name__)

BUDGET_S = 30.0
"""After this time the compiler isn't tried any more: a start shouldn't take much longer for what the next one knows."""

WORTH = 0.98
"""Compiled blocks must take less than this share of the time of others: the compiler makes the first start longer."""

RUNS, ROUNDS = 10, 3


class Compile(StrEnum):
    """Whether torch.compile is used."""

    AUTO = "auto"
    """On a GPU, if it makes the blocks faster."""
    ON = "on"
    OFF = "off"


TORCHS_CHOICE = "torch"

ATTENTIONS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""The kernels to compare with torch's own choice. One that a device lacks is replaced by a slow one, and so isn't chosen."""


@dataclass(frozen=True)
class Tuning:
    """How the blocks run."""

    attention: str = TORCHS_CHOICE
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.attention}, compiled" if self.compiled else self.attention

    def kernels(self) -> AbstractContextManager[None]:
        """Has attention that is computed inside use the kernel."""
        if self.attention == TORCHS_CHOICE:
            return nullcontext()
        return sdpa_kernel([ATTENTIONS[self.attention], SDPBackend.MATH], set_priority=True)


def choose(
    mode: Compile,
    seconds_of: Callable[[Tuning], float],
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tuning, dict[Tuning, float]]:
    """Tries the attention kernels, then the compiler with the fastest of them; returns the fastest way, and all seconds.

    Args:
        mode: what the user wants.
        seconds_of: measures one way; what it raises means that the device can't run in this way.
        budget_s: seconds after which the compiler isn't tried.
        clock: seconds.

    Raises:
        CompileError: the user wants the compiler, and it fails.
    """
    began, seconds = clock(), dict[Tuning, float]()
    for attention in (TORCHS_CHOICE, *ATTENTIONS):
        with _noting(way := Tuning(attention)):
            seconds[way] = seconds_of(way)
    best = min(seconds, key=seconds.__getitem__, default=Tuning())
    if mode is Compile.OFF:
        return best, seconds
    way = Tuning(best.attention, compiled=True)
    if mode is Compile.ON:
        try:
            seconds[way] = seconds_of(way)
        except Exception as error:
            if is_device_lost(error):
                raise
            raise CompileError(f"torch.compile fails: {_line(error)}") from error
        return way, seconds
    if clock() - began > budget_s:
        logger.info("no time is left to try the compiler", extra={"seconds": budget_s})
        return best, seconds
    with _noting(way):
        seconds[way] = seconds_of(way)
    return (way if seconds.get(way, math.inf) < WORTH * seconds.get(best, math.inf) else best), seconds


@contextmanager
def _noting(way: Tuning) -> Iterator[None]:
    """Logs that the device can't run in some way, and goes on."""
    try:
        yield
    except Exception as error:
        if is_device_lost(error):
            raise
        logger.info("the backbone can't run in this way", extra={"way": str(way), "reason": _line(error)})


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def compile_blocks(model: Hamer) -> None:
    """Has torch.compile compile the blocks when they are first used. All of them share what it makes."""
    for block in model.backbone.blocks:
        block.compile()


def tune(
    model: Hamer,
    streams: Streams,
    *,
    batch: int,
    mode: Compile,
    folder: Path | None,
) -> Tuning:
    """Returns how the model's blocks run fastest in batches of this size, and has them compiled if that is it.

    Args:
        model: on its device.
        streams: those of the device. Without graphs, on a CPU, nothing is measured, and the compiler is used if it must be.
        batch: crops.
        mode: what the user wants.
        folder: where the answer is kept for later starts, and what the compiler makes; None: nowhere.

    Raises:
        CompileError: the user wants the compiler, and it fails.
    """
    if folder and mode is not Compile.OFF and (streams.has_graphs or mode is Compile.ON):
        keep_compiled_code(folder)
    if streams.has_graphs:
        cache = TuningCache(folder, described(model, batch, mode)) if folder else None
        with cache.locked() if cache else nullcontext():
            tuning = (cache and _kept(cache)) or _measured(model, streams, batch, mode, cache)
    else:
        tuning = Tuning(compiled=mode is Compile.ON)
    if tuning.compiled:
        compile_blocks(model)
    logger.info("chose how the backbone runs", extra=asdict(tuning))
    return tuning


def _kept(cache: TuningCache) -> Tuning | None:
    kept = cache.get()
    ways = [Tuning(attention, compiled) for attention in (TORCHS_CHOICE, *ATTENTIONS) for compiled in (False, True)]
    return next((way for way in ways if kept == asdict(way)), None)


def _measured(
    model: Hamer,
    streams: Streams,
    batch: int,
    mode: Compile,
    cache: TuningCache | None,
) -> Tuning:
    tuning, seconds = choose(mode, lambda way: block_seconds(model, streams, way, batch))
    figures = {str(way): round(each * 1e6, 1) for way, each in seconds.items()}
    logger.info("measured how a block runs", extra={"crops": batch, "microseconds": figures})
    if cache:
        cache.put(asdict(tuning), figures)
    return tuning


@torch.inference_mode()
def block_seconds(
    model: Hamer, streams: Streams, way: Tuning, batch: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Returns how long the first block takes for a batch, run in one way, as a graph where there are graphs."""
    block: Callable[[torch.Tensor], torch.Tensor] = model.backbone.blocks[0]
    run = torch.compile(block) if way.compiled else block
    positions = model.backbone.pos_embed
    dtype = positions.dtype
    noise = torch.randn(batch, *positions.shape[1:], generator=torch.Generator().manual_seed(0)).to(positions.device)

    def compute(x: torch.Tensor) -> torch.Tensor:
        return run(x.to(dtype))

    with streams.computing(), way.kernels():
        graph = streams.capture(compute, tuple(noise.shape), None) or compute
        graph(noise)
        streams.record().synchronize()
        rounds = []
        for _ in range(ROUNDS):
            began = clock()
            for _ in range(RUNS):
                graph(noise)
            streams.record().synchronize()
            rounds.append((clock() - began) / RUNS)
    return statistics.median(rounds)


def described(model: Hamer, batch: int, mode: Compile) -> dict[str, object]:
    """Returns all that the answer depends on: device, torch, and the sizes and number formats of the blocks."""
    device = model.mean.device
    block = model.backbone.blocks[0]
    assert isinstance(block, Block)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "mode": mode.value,
        "crops": batch,
        "positions": list(model.backbone.pos_embed.shape),
        "heads": block.attn.heads,
        "weights": {name: [list(weight.shape), str(weight.dtype)] for name, weight in block.named_parameters()},
    }


def keep_compiled_code(folder: Path) -> None:
    """Has the compilers keep their code in a folder, unless the environment names others."""
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(variable, str(folder / name))
