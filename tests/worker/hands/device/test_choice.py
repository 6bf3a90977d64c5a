"""Which device the networks run on, and why a GPU can't be used."""

import logging
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from worker.hands.device import choice  # noqa: E402
from worker.hands.device.choice import choose_device, choose_gpu, explained, gpu_problem  # noqa: E402
from worker.hands.device.errors import DeviceError  # noqa: E402

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by downloading and "
    "installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
INSUFFICIENT = "driver version is insufficient for CUDA runtime version"


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A torch with CUDA 13.0 and one GPU; an answer that was cached is asked for again."""
    choice._problem_with_the_first.cache_clear()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *shape, device: ones(*shape))  # noqa: ARG005
    yield monkeypatch
    choice._problem_with_the_first.cache_clear()


def fails(error: Exception):
    """Returns a function that raises this."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0"])
def test_the_device_that_is_chosen(name: str) -> None:
    """`auto` is the GPU, if it computes."""
    chosen = choose_device(name)
    assert chosen == torch.device("cuda" if name == "auto" else name)
    assert choose_gpu(name) == (None if name == "cpu" else chosen)


@pytest.mark.parametrize(
    ("name", "error"), [("cuda:1", "1 CUDA device"), ("nonsense", "no device"), ("meta", "not on")]
)
def test_a_device_that_is_not_there(name: str, error: str) -> None:
    """It is an error that names it."""
    with pytest.raises(DeviceError, match=error):
        choose_device(name)


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("init", RuntimeError(TOO_OLD), "too old: it reaches CUDA 12.2, and torch .* needs CUDA 13.0; update"),
        ("init", RuntimeError(f"CUDA {INSUFFICIENT}"), "too old: torch .* needs CUDA 13.0"),
        ("init", RuntimeError("Found no NVIDIA driver on your system. Please check"), "there is no NVIDIA driver"),
        ("ones", RuntimeError("CUDA error: no kernel image is available for execution"), r"isn't built for \(sm_80 sm_90\)"),
        ("ones", torch.AcceleratorError("CUDA error: ECC error encountered\nCUDA kernel errors"), "encountered$"),
        ("device_count", AssertionError(), "without a reason"),
    ],
)  # fmt: skip
def test_a_gpu_that_does_not_work(
    cuda: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str, error: Exception, said: str
) -> None:
    """Named, it is an error at the start that says what to do; `auto` says the same once, and takes the CPU."""
    cuda.setattr(torch if where == "ones" else torch.cuda, where, fails(error))
    with pytest.raises(DeviceError, match=f"^'cuda' was requested, but .*{said}"):
        choose_device("cuda")
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == choose_device("auto") == torch.device("cpu")
    (record,) = caplog.records
    assert record.getMessage() == "no GPU can be used; the networks run on the CPU"
    assert record.reason == gpu_problem(0)


def test_a_gpu_that_computes_wrongly(cuda: pytest.MonkeyPatch) -> None:
    """A sum is tried before the device is used."""
    zeros = torch.zeros
    cuda.setattr(torch, "ones", lambda *shape, device: zeros(*shape))  # noqa: ARG005
    assert gpu_problem(0) == "it computes wrongly"


def test_a_torch_for_the_cpu(cuda: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`auto` says nothing then; a GPU that is asked for by name is an error."""
    cuda.setattr(torch.backends.cuda, "is_built", lambda: False)
    cuda.setattr(torch.cuda, "init", fails(AssertionError("Torch not compiled with CUDA enabled")))
    assert choose_device("auto") == torch.device("cpu")
    assert caplog.records == []
    with pytest.raises(DeviceError, match="is built without CUDA"):
        choose_device("cuda")
    assert "without CUDA" in explained("")
