"""What model_config.yaml says of a HaMeR. Pure."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.hamer.errors import CheckpointError

MAX_NUMBER = 1_000_000
"""No size, focal length or colour of a HaMeR is larger."""


@dataclass(frozen=True)
class HamerConfig:
    """What model_config.yaml says and no shape shows. The defaults are the official code's.

    Attributes:
        image_size: side of the square crop in pixels.
        mean: RGB in [0, 1].
        std: like `mean`.
        focal: pixels, of the crop's camera.
        heads: attention heads of the backbone.
        decoder_heads: attention heads of the head.
        decoder_head_dim: channels of each.
        stated: sizes that the yaml repeats: the name there, the field of `HamerSizes` that must agree, and the value.
    """

    image_size: int = 256
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    focal: float = 5000.0
    heads: int = 16
    decoder_heads: int = 8
    decoder_head_dim: int = 64
    stated: tuple[tuple[str, str, int], ...] = ()


def config_of_yaml(document: Any) -> HamerConfig:
    """Interprets a parsed model_config.yaml.

    Raises:
        CheckpointError: it hasn't the expected form, or describes another network.
    """
    model = _section(document, "MODEL")
    backbone, head = _section(model, "BACKBONE", "MODEL"), _section(model, "MANO_HEAD", "MODEL")
    decoder = _section(head, "TRANSFORMER_DECODER", "MODEL.MANO_HEAD")
    image_size = _number(model, "IMAGE_SIZE", 256)
    for where, values, name, only in (
        ("MODEL.BACKBONE", backbone, "TYPE", "vit"),
        ("MODEL.MANO_HEAD", head, "TYPE", "transformer_decoder"),
        ("MODEL.MANO_HEAD", head, "TRANSFORMER_INPUT", "zero"),
        ("MODEL.MANO_HEAD", head, "IEF_ITERS", 1),
        ("MODEL.MANO_HEAD", head, "JOINT_REP", "6d"),
        ("MODEL.MANO_HEAD.TRANSFORMER_DECODER", decoder, "norm", "layer"),
        ("MODEL", model, "BBOX_SHAPE", [image_size * 3 // 4, image_size]),
    ):
        if name in values and values[name] != only:
            found = reprlib.repr(values[name])
            raise CheckpointError(f"model_config.yaml: {where}.{name} is {found}; only {only!r} is supported")
    stated = []
    for values, name, size in (
        (backbone, "EMBED_DIM", "dim"),
        (backbone, "DEPTH", "depth"),
        (decoder, "context_dim", "dim"),
        (decoder, "dim", "decoder_dim"),
        (decoder, "depth", "decoder_depth"),
        (decoder, "mlp_dim", "decoder_mlp_dim"),
    ):
        if name in values:
            stated.append((name, size, _number(values, name, 0)))
    default = HamerConfig()
    extra = document.get("EXTRA") or {}
    return HamerConfig(
        image_size=image_size,
        mean=_triple(model, "IMAGE_MEAN", default.mean),
        std=_triple(model, "IMAGE_STD", default.std, above=0),
        focal=float(_number(extra, "FOCAL_LENGTH", 5000)),
        heads=_number(backbone, "NUM_HEADS", default.heads),
        decoder_heads=_number(decoder, "heads", default.decoder_heads),
        decoder_head_dim=_number(decoder, "dim_head", default.decoder_head_dim),
        stated=tuple(stated),
    )


def _section(values: Any, name: str, where: str = "") -> Mapping[str, Any]:
    section = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(section, Mapping):
        raise CheckpointError(f"model_config.yaml: no section {where + '.' if where else ''}{name}")
    return section


def _number(values: Any, name: str, default: int) -> int:
    value = values.get(name, default) if isinstance(values, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_NUMBER or value % 1:
        raise CheckpointError(
            f"model_config.yaml: {name} must be a whole number from 1 to {MAX_NUMBER}; got {reprlib.repr(value)}"
        )
    return int(value)


def _triple(
    values: Mapping[str, Any], name: str, default: tuple[float, float, float], *, above: float = -math.inf
) -> tuple[float, float, float]:
    value = values.get(name, default)
    what = "three numbers" if above == -math.inf else f"three numbers above {above:g}"
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(_is_between(v, above) for v in value):
        raise CheckpointError(f"model_config.yaml: {name} must be {what}; got {reprlib.repr(value)}")
    red, green, blue = (float(v) for v in value)
    return red, green, blue


def _is_between(value: Any, above: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and above < value <= MAX_NUMBER
