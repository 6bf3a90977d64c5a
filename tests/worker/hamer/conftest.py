"""The golden bundle: the official code's numbers for a small random network, a made-up hand and a made-up picture."""

import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import yaml

if TYPE_CHECKING:
    from worker.hamer.consistency import Thresholds
    from worker.hamer.modeling.hamer import Hamer
    from worker.hamer.predictor import HamerPredictor

BUNDLE = Path(__file__).parents[2] / "data" / "hamer_tiny"
CHECKPOINT = BUNDLE / "_DATA/hamer_ckpts/checkpoints/hamer.ckpt"
CONFIG = BUNDLE / "_DATA/hamer_ckpts/model_config.yaml"
MANO = BUNDLE / "_DATA/data/mano/MANO_RIGHT.pkl"

WriteCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Limits torch to one thread: with more, every small product waits for all of them on a busy machine."""
    with suppress(ImportError):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    """The golden model_config.yaml, parsed: the sections that are read, since YAML is parsed slowly."""
    document = yaml.safe_load(CONFIG.read_text())
    return {section: document[section] for section in ("MODEL", "EXTRA")}


@pytest.fixture(scope="session")
def golden(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The bundle's inputs and the official outputs; the checkpoint lies beside the sections of its yaml that are read."""
    checkpoint = tmp_path_factory.mktemp("golden") / "hamer.ckpt"
    checkpoint.symlink_to(CHECKPOINT)
    (checkpoint.parent / "model_config.yaml").write_text(yaml.safe_dump(config))
    boxes = json.loads((BUNDLE / "boxes.json").read_text())["boxes"]
    return SimpleNamespace(
        checkpoint=checkpoint,
        mano=MANO,
        image=cv2.imread(str(BUNDLE / "image.png")),
        boxes=np.array([box["xyxy"] for box in boxes], np.float32),
        is_right=np.array([box["right"] == 1 for box in boxes]),
        crops=dict(np.load(BUNDLE / "crops.npz")),
        outputs=dict(np.load(BUNDLE / "outputs.npz")),
    )


@pytest.fixture(scope="session")
def model() -> "Hamer":
    """The golden network in float32, loaded from the bundle as it is."""
    from worker.hamer.checkpoint import load_hamer

    return load_hamer(CHECKPOINT)


@pytest.fixture(scope="session")
def predictor(model: "Hamer") -> "HamerPredictor":
    """The golden network in float32 as a predictor, with meshes."""
    from worker.hamer.engine import Engine
    from worker.hamer.predictor import HamerPredictor

    return HamerPredictor(Engine(model, mesh=True))


@pytest.fixture(scope="session")
def joints_predictor(model: "Hamer") -> "HamerPredictor":
    """The same, without meshes."""
    from worker.hamer.engine import Engine
    from worker.hamer.predictor import HamerPredictor

    return HamerPredictor(Engine(model))


@pytest.fixture(scope="session")
def lenient() -> "Thresholds":
    """Thresholds that accept any hand: those of the golden network, which is random, match no picture."""
    from worker.hamer.consistency import Thresholds

    return Thresholds(
        min_overlap=0.0, max_offset=9, min_extent=0, max_extent=9, max_outside=1, min_pixels=0, max_joint_distance=9
    )


@pytest.fixture
def hands(golden: SimpleNamespace) -> SimpleNamespace:
    """The golden boxes as a detector's output."""
    n = len(golden.boxes)
    return SimpleNamespace(
        boxes=golden.boxes,
        is_right=golden.is_right,
        scores=np.linspace(0.9, 0.6, n, dtype=np.float32),
        keypoints=np.full((n, 21, 2), np.nan, np.float32),
    )


@pytest.fixture(scope="session")
def tensors() -> Mapping[str, Any]:
    """The golden checkpoint's tensors."""
    import torch

    return torch.load(CHECKPOINT, weights_only=True)["state_dict"]


@pytest.fixture(scope="session")
def overflowing(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with weights within float16's range whose products aren't."""
    import torch

    weight = "backbone.blocks.0.mlp.fc1.weight"
    return dict(tensors) | {weight: torch.full((256, 64), 3e4) * torch.sign(tensors[weight])}


@pytest.fixture(scope="session")
def written(tensors: Mapping[str, Any], config: dict[str, Any]) -> SimpleNamespace:
    """The content of a checkpoint with the golden tensors, and of its yaml."""
    import torch

    file = io.BytesIO()
    torch.save({"epoch": 7, "state_dict": tensors}, file)
    return SimpleNamespace(checkpoint=file.getvalue(), yaml=yaml.safe_dump(config))


@pytest.fixture
def write_checkpoint(tmp_path: Path, tensors: Mapping[str, Any], written: SimpleNamespace) -> WriteCheckpoint:
    """Returns a function that writes a checkpoint and its yaml in the release's layout and returns the checkpoint's path."""
    import torch

    def write(state: object = None, document: object = None, **extra: object) -> Path:
        path = tmp_path / "hamer_ckpts" / "checkpoints" / "hamer.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if state is None and not extra:
            path.write_bytes(written.checkpoint)
        else:
            torch.save({"epoch": 7, "state_dict": tensors if state is None else state, **extra}, path)
        text = written.yaml if document is None else yaml.safe_dump(document)
        (path.parents[1] / "model_config.yaml").write_text(text)
        return path

    return write
