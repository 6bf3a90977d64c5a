"""Pictures for both engines, and the torch engine on the CPU."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.models.synthetic_hands import scene

torch = pytest.importorskip("torch")

from worker.hands.device.engine import DeviceEngine  # noqa: E402
from worker.hands.models import ModelPaths  # noqa: E402
from worker.synthetic.camera import SyntheticCamera  # noqa: E402
from worker.synthetic.spec import SyntheticSpec  # noqa: E402

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch in one thread: the tests run beside each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """Drawn hands in a few sizes, a picture of many drawn hands, a small one without any, two drawn people, and photos."""
    rows = [
        ((150 + 240 * column, 170 + 230 * row), 50, 30 * column, row > 0) for column in range(3) for row in range(2)
    ]
    return {
        "one": scene(((320, 250), 110, 45, True))[0],
        "pair": scene(((200, 260), 100, 0, True), ((450, 260), 60, 0, False))[0],
        "many": scene(*rows, size=(1280, 720))[0],
        "nothing": scene(size=(201, 153))[0],
        "people": SyntheticCamera(SyntheticSpec(seed=2, fps=1.0, people=(2, 2), size=(960, 720))).frame(8),
        "hands.jpg": cv2.imread(str(REPOSITORY / "docs" / "hands.jpg")),
    }


@pytest.fixture(scope="module")
def engine(models: ModelPaths) -> Iterator[DeviceEngine]:
    """The torch engine."""
    with closing(DeviceEngine(models, torch.device("cpu"), pixels=4_000_000)) as opened:
        yield opened
