"""How long `hand-counter detect --backend hamer` takes from its start to its first result, with random weights.

    python -m bench.hamer_start                    # the official size: writes 2.6 GB into --folder first
    python -m bench.hamer_start --size tiny

The file has just been written, so it is read from memory; a disk adds its own time to the first start. Prints the
seconds of each start, and the processor's, which hardly depend on other load.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from bench.hamer import TINY
from bench.hamer_reference import random_tensors
from worker.hamer.sizes import VIT_H, HamerSizes

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "hands.jpg"
GOAL_S = 8.0
"""On two processors, for the official size."""


def write_checkpoint(folder: Path, sizes: HamerSizes) -> Path:
    """Writes a checkpoint of random weights with its yaml; returns the checkpoint's path."""
    path = folder / "hamer.ckpt"
    torch.save({"state_dict": random_tensors(sizes)}, path)
    decoder = {"norm": "layer", "heads": sizes.decoder_heads, "dim_head": sizes.decoder_head_dim}
    model = {
        "IMAGE_SIZE": sizes.image_size,
        "BACKBONE": {"TYPE": "vit", "NUM_HEADS": sizes.heads},
        "MANO_HEAD": {"TYPE": "transformer_decoder", "TRANSFORMER_DECODER": decoder},
    }
    (folder / "model_config.yaml").write_text(yaml.safe_dump({"MODEL": model}))
    return path


def start(checkpoint: Path) -> tuple[float, float]:
    """Counts the hands of a picture in a new process; returns its seconds and its processor's seconds."""
    command = [sys.executable, "-m", "worker", "detect", str(PICTURE), "--json", "--backend", "hamer"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(
        [*command, "--device", "cpu", "--hamer-checkpoint", str(checkpoint)], check=True, capture_output=True
    )
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("vit-h", "tiny"), default="vit-h")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written for the moment")
    options = parser.parse_args()
    times = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        checkpoint = write_checkpoint(Path(folder), VIT_H if options.size == "vit-h" else TINY)
        for _ in range(options.rounds):
            times.append(start(checkpoint))
            print(f"first result after {times[-1][0]:.1f} s, {times[-1][1]:.1f} s of processors", flush=True)
    took = sorted(wall for wall, _ in times)[len(times) // 2]
    if options.size == "vit-h":
        print(f"median {took:.1f} s (goal: {GOAL_S:.0f} s on two idle processors)")
    print(json.dumps({"bench": "hamer_start", "size": options.size, "seconds": round(took, 2)}))


if __name__ == "__main__":
    main()
