"""A plain HaMeR: the straightforward eager forward pass that ours is compared with, in speed and in its results.

It uses the tensors under their official names, step by step, as the official demo runs them per hand: one crop, full
precision, explicit attention (including queries and keys that have no effect with one token), joint after joint, and always
the whole mesh.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from worker.hamer.mano_pickle import ORDER, TIPS
from worker.hamer.sizes import LAYERS, HamerSizes, mano_shapes, network_shapes

WEIGHTS = 0.02
"""The scale of nearly all weights."""
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)


def random_tensors(
    sizes: HamerSizes, seed: int = 0, dtype: torch.dtype = torch.float32, *, copies: bool = True
) -> dict[str, torch.Tensor]:
    """Returns a made-up checkpoint's tensors: random weights of realistic sizes, and a random blob for a hand.

    Without copies the tensors overlap in memory, which takes a fraction of the time; but then a bench would find
    weights in the processor's cache that are too large for it.
    """
    generator = torch.Generator().manual_seed(seed)
    # One supply of numbers, read from a random position for each tensor: generating 670 million would take a while.
    # More than twice as long as the largest tensor, so that each tensor is a part of it.
    shapes = network_shapes(sizes)
    hand = mano_shapes(778, 1538)
    supply = torch.randn(2 * max(map(math.prod, [*shapes.values(), *hand.values()])) + 29, generator=generator)
    shared = None if copies else (supply * WEIGHTS).to(dtype)

    def draw(shape: tuple[int, ...], scale: float) -> torch.Tensor:
        count = math.prod(shape)
        start = int(torch.randint(len(supply) - count, (), generator=generator))
        if shared is None or scale != WEIGHTS:
            return (supply[start : start + count] * scale).to(dtype).view(shape)
        return shared[start : start + count].view(shape)

    tensors: dict[str, torch.Tensor] = {}
    for key, shape in shapes.items():
        if "norm" in key:
            tensors[key] = (torch.ones if key.endswith("weight") else torch.zeros)(shape, dtype=dtype)
        else:
            # Readouts that react visibly to the picture, like trained ones.
            tensors[key] = draw(shape, 0.04 if key.endswith(("decpose.weight", "decshape.weight")) else WEIGHTS)
    tensors["mano_head.init_hand_pose"] = draw((1, 96), 0.7)
    tensors["mano_head.init_cam"] = torch.tensor([[0.9, 0.0, 0.0]], dtype=dtype)
    scales = {"v_template": 0.04, "shapedirs": 0.003, "posedirs": 0.0005, "J_regressor": 3.0, "lbs_weights": 3.0}
    for key, shape in hand.items():
        if (name := key.removeprefix("mano.")) in scales:
            tensors[key] = draw(shape, scales[name])
    for name in ("J_regressor", "lbs_weights"):
        tensors[f"mano.{name}"] = tensors[f"mano.{name}"].float().softmax(-1).to(dtype)
    tensors["mano.parents"] = torch.tensor(PARENTS)
    tensors["mano.faces_tensor"] = torch.randint(0, 778, (1538, 3), generator=generator)
    tensors["mano.joint_map"] = torch.tensor(ORDER)
    tensors["mano.extra_joints_idxs"] = torch.tensor(TIPS)
    return tensors


def flops_per_crop(sizes: HamerSizes) -> tuple[float, float]:
    """Returns the floating-point operations of backbone and head for one crop; a multiply-add counts as two."""
    t, d, inner = sizes.tokens, sizes.dim, sizes.decoder_inner
    block = 2 * t * (4 * d * d + 2 * d * sizes.mlp_dim) + 4 * t * t * d
    backbone = sizes.depth * block + 2 * t * d * 3 * sizes.patch**2
    layer = 2 * t * d * 2 * inner + 2 * sizes.decoder_dim * (4 * inner + 2 * sizes.decoder_mlp_dim) + 4 * t * inner
    return float(backbone), float(sizes.decoder_depth * layer)


class PlainHamer:
    """The same network without any optimisation.

    Args:
        tensors: the checkpoint's tensors under their official names, on the device to use.
        sizes: the sizes of the network.
        focal: focal length of the crop's camera, pixels.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], sizes: HamerSizes, focal: float = 5000.0) -> None:
        self.t = tensors
        self.sizes = sizes
        self.focal = focal

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Takes normalised RGB (B, 3, 256, 192); returns cameras, vertices and key points."""
        features = self.backbone(images)
        pose, betas, camera = self.head(features)
        joints, vertices = self.mano(_rotations(pose), betas)
        depth = 2 * self.focal / (self.sizes.image_size * camera[:, 0] + 1e-9)
        placed = joints + torch.stack([camera[:, 1], camera[:, 2], depth], -1)[:, None]
        projected = self.focal / self.sizes.image_size * placed[..., :2] / placed[..., 2:]
        return {"camera": camera, "vertices": vertices, "keypoints_3d": joints, "keypoints_2d": projected}

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.t[f"{name}.weight"], self.t.get(f"{name}.bias"))

    def _norm(self, x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"], eps)

    def backbone(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features (B, 192, D)."""
        patch = "backbone.patch_embed.proj"
        x = F.conv2d(images, self.t[f"{patch}.weight"], self.t[f"{patch}.bias"], stride=self.sizes.patch, padding=2)
        x = x.flatten(2).transpose(1, 2)
        x = x + self.t["backbone.pos_embed"][:, 1:] + self.t["backbone.pos_embed"][:, :1]
        for i in range(self.sizes.depth):
            block = f"backbone.blocks.{i}"
            q, k, v = self._linear(self._norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, dim=-1)
            x = x + self._linear(_attention(q, k, v, self.sizes.heads), f"{block}.attn.proj")
            hidden = F.gelu(self._linear(self._norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
            x = x + self._linear(hidden, f"{block}.mlp.fc2")
        return self._norm(x, "backbone.last_norm", 1e-6)

    def head(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the pose (B, 96), the shape (B, 10) and the camera (B, 3)."""
        transformer, heads = "mano_head.transformer", self.sizes.decoder_heads
        x = self._linear(features.new_zeros(len(features), 1, 1), f"{transformer}.to_token_embedding")
        x = x + self.t[f"{transformer}.pos_embedding"]
        for i in range(self.sizes.decoder_depth):
            layer = f"{LAYERS}.{i}"
            q, k, v = self._linear(self._norm(x, f"{layer}.0.norm", 1e-5), f"{layer}.0.fn.to_qkv").chunk(3, dim=-1)
            x = x + self._linear(_attention(q, k, v, heads), f"{layer}.0.fn.to_out.0")
            q = self._linear(self._norm(x, f"{layer}.1.norm", 1e-5), f"{layer}.1.fn.to_q")
            k, v = self._linear(features, f"{layer}.1.fn.to_kv").chunk(2, dim=-1)
            x = x + self._linear(_attention(q, k, v, heads), f"{layer}.1.fn.to_out.0")
            hidden = F.gelu(self._linear(self._norm(x, f"{layer}.2.norm", 1e-5), f"{layer}.2.fn.net.0"))
            x = x + self._linear(hidden, f"{layer}.2.fn.net.3")
        x = x[:, 0]
        pose = self._linear(x, "mano_head.decpose") + self.t["mano_head.init_hand_pose"]
        betas = self._linear(x, "mano_head.decshape") + self.t["mano_head.init_betas"]
        camera = self._linear(x, "mano_head.deccam") + self.t["mano_head.init_cam"]
        return pose, betas, camera

    def mano(self, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the 21 key points and the vertices."""
        t, b = self.t, len(betas)
        shaped = t["mano.v_template"] + torch.einsum("vxs,bs->bvx", t["mano.shapedirs"], betas)
        joints = torch.einsum("jv,bvx->bjx", t["mano.J_regressor"], shaped)
        feature = (rotations[:, 1:] - torch.eye(3, device=betas.device)).reshape(b, -1)
        corrected = shaped + (feature @ t["mano.posedirs"]).view(b, -1, 3)
        parents = t["mano.parents"]
        transforms = torch.zeros(b, len(parents), 4, 4, device=betas.device)
        transforms[:, :, :3, :3] = rotations
        transforms[:, 0, :3, 3] = joints[:, 0]
        transforms[:, 1:, :3, 3] = joints[:, 1:] - joints[:, parents[1:]]
        transforms[:, :, 3, 3] = 1
        chain = [transforms[:, 0]]
        for k in range(1, len(parents)):
            chain.append(chain[int(parents[k])] @ transforms[:, k])
        posed = torch.stack(chain, dim=1)
        relative = posed.clone()
        relative[:, :, :3, 3] -= (posed[:, :, :3, :3] @ joints[..., None])[..., 0]
        blended = torch.einsum("vj,bjxy->bvxy", t["mano.lbs_weights"], relative)
        homogeneous = F.pad(corrected, (0, 1), value=1.0)
        vertices = (blended @ homogeneous[..., None])[:, :, :3, 0]
        together = torch.cat([posed[:, :, :3, 3], vertices[:, t["mano.extra_joints_idxs"]]], dim=1)
        return together[:, t["mano.joint_map"]], vertices


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    out: torch.Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return out


def _rotations(pose: torch.Tensor) -> torch.Tensor:
    pose = pose.view(len(pose), 16, 2, 3)
    r1 = F.normalize(pose[:, :, 0], dim=-1)
    r2 = F.normalize(pose[:, :, 1] - (r1 * pose[:, :, 1]).sum(-1, keepdim=True) * r1, dim=-1)
    return torch.stack([r1, r2, torch.linalg.cross(r1, r2)], dim=-1)
