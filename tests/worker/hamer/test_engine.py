"""The engine: batches of fixed sizes, and one row for each hand."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="HaMeR needs torch (the extra `hamer`)")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only  # noqa: E402

from worker.hamer.checkpoint import BRAIN, load_hamer  # noqa: E402
from worker.hamer.engine import BUCKETS, CPU_BUCKETS, Engine, _tensor_cores  # noqa: E402
from worker.hamer.modeling.hamer import Hamer  # noqa: E402
from worker.hamer.streams import Computation, HostStreams  # noqa: E402


@pytest.fixture(scope="module")
def crops(golden: SimpleNamespace) -> torch.Tensor:
    """The official crops as the network sees them."""
    return torch.from_numpy(golden.crops["img"])[..., 32:224].contiguous()


class StaticGraph:
    """Works like a CUDA graph, on a CPU: has one input buffer, and always computes all of it."""

    def __init__(self, function: Computation, shape: tuple[int, ...], pool: Any) -> None:
        self.function, self.input = function, torch.zeros(shape)
        self.pool = pool or object()

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        self.input[: len(crops)].copy_(crops)
        return self.function(self.input)[: len(crops)]


class Graphs(HostStreams):
    """A CPU with graphs."""

    has_graphs = True

    def __init__(self) -> None:
        self.made: list[tuple[int, Any]] = []

    def capture(self, function: Computation, shape: tuple[int, ...], pool: Any) -> StaticGraph:
        self.made.append((shape[0], pool))
        return StaticGraph(function, shape, pool)


@pytest.mark.parametrize("mesh", [False, True])
def test_rows_hold_everything(mesh: bool, model: Hamer, crops: torch.Tensor):
    """Rows have all of the network's outputs, unchanged."""
    engine = Engine(model, mesh=mesh)
    rows = engine.forward(crops)
    assert rows.shape == (4, engine.layout.length)
    ours, theirs = engine.layout.split(rows), model(crops, mesh=mesh)
    assert ours.keys() == theirs.keys() == engine.layout.shapes.keys()
    assert all(np.array_equal(ours[name], theirs[name].numpy()) for name in ours)
    assert ("vertices" in ours) == mesh


def test_captured_batches(model: Hamer, crops: torch.Tensor):
    """Each size is prepared once, all share memory, and padding, old crops too, doesn't affect the rows."""
    graphs = Graphs()
    engine = Engine(model, buckets=(1, 2, 4), streams=graphs)
    for size in (4, 2, 1):
        engine.warm_up(size)
    expected = Engine(model).forward(crops)
    for n in (4, 3, 1, 2, 3):
        assert np.abs(engine.forward(crops[-n:]) - expected[-n:]).max() < 1e-4
    assert [size for size, _ in graphs.made] == [4, 2, 1]
    assert graphs.made[0][1] is None
    assert graphs.made[1][1] is graphs.made[2][1] is not None


def test_sizes_that_were_not_prepared(model: Hamer, crops: torch.Tensor):
    """A size that wasn't warmed up is prepared when it is first needed."""
    graphs = Graphs()
    engine = Engine(model, buckets=(1, 4), streams=graphs)
    engine.forward(crops[:2])
    engine.forward(crops[:3])
    assert [size for size, _ in graphs.made] == [4]


def test_batch_sizes_by_device(model: Hamer):
    """A CPU's batches are small."""
    assert Engine(model).buckets == CPU_BUCKETS
    assert BUCKETS == (1, 2, 4, 8, 16, 32, 64)
    assert Engine(model, buckets=(1, 3)).buckets == (1, 3)


def test_tensor_cores_are_allowed_inside_the_block_only():
    """The precision of products is lowered inside the block and restored afterwards, also after an error."""
    before = torch.get_float32_matmul_precision()
    with _tensor_cores(True):
        assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(ZeroDivisionError), _tensor_cores(True):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before
    with _tensor_cores(False):
        assert torch.get_float32_matmul_precision() == before


class Shapes(TorchDispatchMode):
    """Computes with tensors on the meta device, which have no values; the shapes are those that the CPU's functions find.

    Torch's own functions of shapes are mostly in Python and import its compiler, which takes longer than all other tests here.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import the compiler in order to keep it away from here

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor | torch.device)]
        devices = {each.device.type if isinstance(each, torch.Tensor) else each.type for each in given}
        if devices != {"meta"} or BY_VALUE & set(operation.tags):
            raise TypeError(f"{operation} needs values")
        if operation._schema.is_mutable:
            return operation(*args, **kwargs)
        found = operation(*tree_map(on_the_cpu, args), **tree_map(on_the_cpu, kwargs))
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), found)


BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def on_the_cpu(argument: Any) -> Any:
    """Returns a tensor of zeros with the same strides for one on the meta device, and the CPU for that."""
    if isinstance(argument, torch.Tensor):
        return torch.empty_strided(argument.shape, argument.stride(), dtype=argument.dtype).zero_()
    return torch.device("cpu") if isinstance(argument, torch.device) else argument


def test_a_forward_can_be_captured(golden: SimpleNamespace, crops: torch.Tensor):
    """The forward runs on tensors without values, so nothing in it waits for the device or branches on numbers."""
    model = load_hamer(golden.checkpoint, precision=BRAIN).to("meta")
    empty = crops.to("meta")
    for mesh in (False, True):
        with Shapes():
            out = model(empty, mesh=mesh)
        assert out["keypoints_3d"].shape == (4, 21, 3)
        assert all(tensor.is_meta for tensor in out.values())


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.sum().item(),
        lambda x: x + 1 if x.sum() > 0 else x,
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x[[0, 2]],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: x + torch.zeros(3),
    ],
)
def test_what_cannot_be_captured_is_refused(forward: Callable[[torch.Tensor], object]):
    """What waits for the device, what has as many numbers as the values say, and tensors elsewhere."""
    with Shapes(), pytest.raises(TypeError, match=r"needs values|can't convert meta"):
        forward(torch.zeros(3, device="meta"))
