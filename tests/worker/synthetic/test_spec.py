import itertools

import pytest

from worker.synthetic.spec import SyntheticSpec, parse_synthetic


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("synthetic:", SyntheticSpec()),
        ("synthetic", SyntheticSpec()),
        ("synthetic:fps=15,hands=2,seed=1", SyntheticSpec(fps=15.0, hands=(2, 2), seed=1)),
        ("synthetic:hands=1-3,size=320x240", SyntheticSpec(hands=(1, 3), size=(320, 240))),
        ("synthetic:people=0-2", SyntheticSpec(people=(0, 2))),
        ("synthetic:jitter=0.25", SyntheticSpec(jitter=0.25)),
    ],
)
def test_specification(text: str, spec: SyntheticSpec) -> None:
    """Each property may be set; the others have their defaults."""
    assert parse_synthetic(text) == spec


@pytest.mark.parametrize(
    "text",
    ["synthetic:fps", "synthetic:fps=fast", "synthetic:colour=red", "synthetic:size=640", "synthetic:jitter=0.9",
     "synthetic:hands=two", "synthetic:fps=15;hands=2"],
)  # fmt: skip
def test_invalid_text(text: str) -> None:
    """Text that can't be parsed is a ValueError that repeats it."""
    with pytest.raises(ValueError, match=text.removeprefix("synthetic:").split("=")[0]):
        parse_synthetic(text)


def test_jitter_keeps_the_order_and_the_grid() -> None:
    """Jittered capture times increase, stay close to the even grid, begin at 0 and are reproducible."""
    spec = SyntheticSpec(fps=10.0, jitter=0.45, seed=3)
    positions = [spec.position(index) for index in range(500)]
    assert positions[0] == 0.0
    assert all(later > earlier for earlier, later in itertools.pairwise(positions))
    assert all(abs(position - index / 10) <= 0.0451 for index, position in enumerate(positions))
    assert positions == [spec.position(index) for index in range(500)]
    assert len({round(position - index / 10, 6) for index, position in enumerate(positions)}) > 400


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"size": (10, 480)}, "size"),
        ({"hands": (0, 4)}, "hands"),
        ({"hands": (2, 1)}, "hands"),
        ({"jitter": 0.46}, "jitter"),
        ({"people": (0, 4)}, "people"),
        ({"people": (2, 1)}, "people"),
    ],
)
def test_values_out_of_range(arguments: dict, complaint: str) -> None:
    """A value out of range is a ValueError that names its property."""
    with pytest.raises(ValueError, match=complaint):
        SyntheticSpec(**arguments)
