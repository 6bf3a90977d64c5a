"""The sizes of a HaMeR, and the tensors that its checkpoint must therefore have.

Sizes are inferred from the tensors' shapes and checked against model_config.yaml; only those that no shape shows
(heads, picture, camera) come from the yaml. If many tensors share a size, the majority decides, so that the error names
a single wrong tensor instead of all the others.
"""

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from worker.hamer.config import HamerConfig
from worker.hamer.errors import CheckpointError
from worker.hamer.modeling.vit import PATCH_PADDING
from worker.hands.outputs import BETAS, JOINTS, KEYPOINTS

Shape = tuple[int, ...]

MAX_LAYERS = 256
"""Of a stack, so that a number in a tensor's name can't demand any amount of memory. The official backbone has 32."""

TRANSFORMER = "mano_head.transformer"
LAYERS = f"{TRANSFORMER}.transformer.layers"
TIPS = 5

IGNORED = re.compile(
    r"initialized|discriminator\..*|mano\.(hand_components|hand_mean|pose_mean)"
    r"|mano\.vertex_joint_selector\.extra_joints_idxs"
)
"""Tensors of the release that inference doesn't use: those of the training, unused means, a duplicate."""


@dataclass(frozen=True, kw_only=True)
class HamerSizes:
    """The sizes of a HaMeR: of the backbone, and of the transformer decoder in its head."""

    image_size: int
    patch: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int
    decoder_head_dim: int
    decoder_mlp_dim: int

    @property
    def tokens(self) -> int:
        """Patches in the visible part of the crop (256 x 192 pixels in patches of 16 are 16 rows of 12)."""
        sides = (self.image_size, self.image_size * 3 // 4)
        rows, columns = ((side + 2 * PATCH_PADDING - self.patch) // self.patch + 1 for side in sides)
        return rows * columns

    @property
    def decoder_inner(self) -> int:
        """Channels of all of the decoder's heads together."""
        return self.decoder_heads * self.decoder_head_dim


VIT_H = HamerSizes(
    image_size=256,
    patch=16,
    dim=1280,
    depth=32,
    heads=16,
    mlp_dim=5120,
    decoder_dim=1024,
    decoder_depth=6,
    decoder_heads=8,
    decoder_head_dim=64,
    decoder_mlp_dim=1024,
)
"""The released network."""


def infer_sizes(shapes: Mapping[str, Shape], config: HamerConfig) -> HamerSizes:
    """Infers the sizes from the shapes of a checkpoint.

    Raises:
        CheckpointError: a tensor that determines a size is missing, or shapes and yaml contradict each other.
    """
    blocks, layers = _count(shapes, "backbone.blocks."), _count(shapes, f"{LAYERS}.")
    sizes = HamerSizes(
        image_size=config.image_size,
        patch=_vote(shapes, ["backbone.patch_embed.proj.weight"], -1),
        dim=_vote(shapes, [f"backbone.blocks.{i}.norm{j}.weight" for i in range(blocks) for j in (1, 2)], 0),
        depth=blocks,
        heads=config.heads,
        mlp_dim=_vote(
            shapes, [f"backbone.blocks.{i}.mlp.fc1.{p}" for i in range(blocks) for p in ("weight", "bias")], 0
        ),
        decoder_dim=_vote(shapes, [f"{LAYERS}.{i}.{j}.norm.weight" for i in range(layers) for j in range(3)], 0),
        decoder_depth=layers,
        decoder_heads=config.decoder_heads,
        decoder_head_dim=config.decoder_head_dim,
        decoder_mlp_dim=_vote(
            shapes, [f"{LAYERS}.{i}.2.fn.net.0.{p}" for i in range(layers) for p in ("weight", "bias")], 0
        ),
    )
    inner = _vote(shapes, [f"{LAYERS}.{i}.{j}.fn.to_out.0.weight" for i in range(layers) for j in (0, 1)], 1)
    if inner != sizes.decoder_inner:
        raise CheckpointError(
            f"the head's attention has {inner} channels, but model_config.yaml has {sizes.decoder_heads} (heads)"
            f" times {sizes.decoder_head_dim} (dim_head)"
        )
    if sizes.heads < 1 or sizes.dim % sizes.heads:
        raise CheckpointError(f"the backbone's {sizes.dim} channels don't divide into {sizes.heads} heads (NUM_HEADS)")
    for name, size, stated in config.stated:
        if (found := getattr(sizes, size)) != stated:
            raise CheckpointError(f"{name} is {stated} in model_config.yaml, but {found} in the checkpoint's tensors")
    return sizes


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Returns how many numbered parts a stack has: one more than the highest number."""
    highest = -1
    for key in shapes:
        if found := re.match(re.escape(prefix) + r"([0-9]+)\.", key):
            if len(found[1]) > len(str(MAX_LAYERS)) or int(found[1]) >= MAX_LAYERS:
                raise CheckpointError(f"unknown: {name_of(key)}; {prefix} may have at most {MAX_LAYERS} parts")
            highest = max(highest, int(found[1]))
    if highest < 0:
        raise CheckpointError(f"there is no tensor {prefix}0.…: is this a HaMeR checkpoint?")
    return highest + 1


def _vote(shapes: Mapping[str, Shape], keys: Iterable[str], axis: int) -> int:
    """Returns the most common length of an axis among the tensors."""
    keys = list(keys)
    lengths = Counter(shapes[key][axis] for key in keys if key in shapes and len(shapes[key]) > abs(axis))
    if not lengths:
        raise CheckpointError(f"missing: {keys[0]}")
    length = lengths.most_common(1)[0][0]
    if length < 1:
        raise CheckpointError(f"wrong shape: {keys[0]} holds no numbers")
    return length


def name_of(key: object) -> str:
    """Returns a tensor's name as an error shows it: on one line, and not too long."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= 120 else reprlib.repr(key)


def network_shapes(sizes: HamerSizes) -> dict[str, Shape]:
    """Returns the shapes of all tensors of backbone and head by their names in the official checkpoint."""
    d, m = sizes.dim, sizes.mlp_dim
    shapes: dict[str, Shape] = {
        "backbone.pos_embed": (1, sizes.tokens + 1, d),
        "backbone.patch_embed.proj.weight": (d, 3, sizes.patch, sizes.patch),
        "backbone.patch_embed.proj.bias": (d,),
        "backbone.last_norm.weight": (d,),
        "backbone.last_norm.bias": (d,),
    }
    for i in range(sizes.depth):
        block = f"backbone.blocks.{i}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (d,), f"{block}.{norm}.bias": (d,)}
        for linear, rows, columns in (
            ("attn.qkv", 3 * d, d),
            ("attn.proj", d, d),
            ("mlp.fc1", m, d),
            ("mlp.fc2", d, m),
        ):
            shapes |= {f"{block}.{linear}.weight": (rows, columns), f"{block}.{linear}.bias": (rows,)}

    t, inner, hidden = sizes.decoder_dim, sizes.decoder_inner, sizes.decoder_mlp_dim
    shapes |= {
        "mano_head.init_hand_pose": (1, JOINTS * 6),
        "mano_head.init_betas": (1, BETAS),
        "mano_head.init_cam": (1, 3),
        "mano_head.transformer.pos_embedding": (1, 1, t),
        "mano_head.transformer.to_token_embedding.weight": (t, 1),
        "mano_head.transformer.to_token_embedding.bias": (t,),
    }
    for i in range(sizes.decoder_depth):
        layer = f"{LAYERS}.{i}"
        for part in range(3):
            shapes |= {f"{layer}.{part}.norm.weight": (t,), f"{layer}.{part}.norm.bias": (t,)}
        for part in (0, 1):
            shapes |= {f"{layer}.{part}.fn.to_out.0.weight": (t, inner), f"{layer}.{part}.fn.to_out.0.bias": (t,)}
        shapes |= {
            f"{layer}.0.fn.to_qkv.weight": (3 * inner, t),
            f"{layer}.1.fn.to_q.weight": (inner, t),
            f"{layer}.1.fn.to_kv.weight": (2 * inner, d),
            f"{layer}.2.fn.net.0.weight": (hidden, t),
            f"{layer}.2.fn.net.0.bias": (hidden,),
            f"{layer}.2.fn.net.3.weight": (t, hidden),
            f"{layer}.2.fn.net.3.bias": (t,),
        }
    for readout, rows in (("decpose", JOINTS * 6), ("decshape", BETAS), ("deccam", 3)):
        shapes |= {f"mano_head.{readout}.weight": (rows, t), f"mano_head.{readout}.bias": (rows,)}
    return shapes


def mano_shapes(vertices: int, faces: int) -> dict[str, Shape]:
    """Returns the shapes of the hand model's tensors by their names in the official checkpoint."""
    return {
        "mano.v_template": (vertices, 3),
        "mano.shapedirs": (vertices, 3, BETAS),
        "mano.posedirs": ((JOINTS - 1) * 9, vertices * 3),
        "mano.J_regressor": (JOINTS, vertices),
        "mano.lbs_weights": (vertices, JOINTS),
        "mano.parents": (JOINTS,),
        "mano.faces_tensor": (faces, 3),
        "mano.joint_map": (KEYPOINTS,),
        "mano.extra_joints_idxs": (TIPS,),
    }
