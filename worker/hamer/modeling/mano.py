"""MANO (Romero et al., SIGGRAPH Asia 2017): a right hand's joints and surface from its pose and shape.

Linear blend skinning with pose correctives. Joints and finger tips alone take a hundredth of the mesh's work: the joint
regressor is folded into template and shape directions, and a tip is a single vertex.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ManoTopology:
    """The parts of MANO that determine the control flow; constants, so it is static.

    Attributes:
        parents: (16,) parent of each joint, -1 for the root; a parent comes before its children.
        tips: (5,) vertices at the finger tips.
        order: (21,) index of each key point among the 16 joints followed by the 5 tips.
    """

    parents: tuple[int, ...]
    tips: tuple[int, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.parents or self.parents[0] != -1 or any(not 0 <= p < k for k, p in enumerate(self.parents) if k):
            raise ValueError(f"parents must be -1 followed by earlier joints; got {self.parents}")
        if any(not 0 <= i < len(self.parents) + len(self.tips) for i in self.order):
            raise ValueError(
                f"order must point into {len(self.parents)} joints and {len(self.tips)} tips; got {self.order}"
            )

    def levels(self) -> list[list[int]]:
        """Returns the joints by their distance from the root, without the root."""
        depth = [0] * len(self.parents)
        for k, parent in enumerate(self.parents[1:], start=1):
            depth[k] = depth[parent] + 1
        return [[k for k, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)]


class Mano(nn.Module):
    """The hand model. Metres; the root rotates about its own joint and isn't translated.

    Args:
        topology: parents, tips and order of the key points.
        vertices: number of vertices.
        faces: number of triangles.
        betas: number of shape coefficients.
    """

    v_template: torch.Tensor
    shapedirs: torch.Tensor
    posedirs: torch.Tensor
    lbs_weights: torch.Tensor
    j_template: torch.Tensor
    j_shapedirs: torch.Tensor
    faces: torch.Tensor
    tips: torch.Tensor

    def __init__(self, topology: ManoTopology, *, vertices: int, faces: int, betas: int) -> None:
        super().__init__()
        self.topology = topology
        joints = len(topology.parents)
        self.register_buffer("v_template", torch.empty(vertices, 3))
        self.register_buffer("shapedirs", torch.empty(vertices, 3, betas))
        self.register_buffer("posedirs", torch.empty((joints - 1) * 9, vertices * 3))
        self.register_buffer("lbs_weights", torch.empty(vertices, joints))
        self.register_buffer("j_template", torch.empty(joints, 3))
        self.register_buffer("j_shapedirs", torch.empty(joints, 3, betas))
        self.register_buffer("faces", torch.empty(faces, 3, dtype=torch.int64))
        # A tensor, because a list of indices would be uploaded in every forward.
        self.register_buffer("tips", torch.empty(len(topology.tips), dtype=torch.int64))
        self.levels = topology.levels()

    def forward(self, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes rotations (B, 16, 3, 3) without a mean pose, and shapes (B, 10).

        Returns:
            The 21 key points (B, 21, 3) and the vertices (B, V, 3).
        """
        joints, global_rotations, positions = self._chain(rotations, betas)
        vertices = self._skin(None, rotations, betas, joints, global_rotations, positions)
        return self._keypoints(positions, vertices.index_select(1, self.tips)), vertices

    def keypoints(self, rotations: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        """Returns the same 21 key points (B, 21, 3), computed without the mesh."""
        joints, global_rotations, positions = self._chain(rotations, betas)
        tips = self._skin(self.tips, rotations, betas, joints, global_rotations, positions)
        return self._keypoints(positions, tips)

    def _chain(self, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the joints at rest (B, J, 3), and each joint's rotation (B, J, 3, 3) and position (B, J, 3) in the pose."""
        parents = self.topology.parents
        joints = self.j_template + torch.einsum("jxs,bs->bjx", self.j_shapedirs, betas)
        global_rotations: list[torch.Tensor] = [rotations[:, 0]] * len(parents)
        positions: list[torch.Tensor] = [joints[:, 0]] * len(parents)
        for level in self.levels:  # the fingers side by side: 3 steps, not 15
            level_parents = [parents[k] for k in level]
            parent_rotations = torch.stack([global_rotations[p] for p in level_parents], dim=1)  # (B, n, 3, 3)
            bones = torch.stack([joints[:, k] - joints[:, p] for k, p in zip(level, level_parents, strict=True)], dim=1)
            local = torch.stack([rotations[:, k] for k in level], dim=1)
            level_rotations = parent_rotations @ local
            level_offsets = (parent_rotations @ bones[..., None])[..., 0]
            for i, (k, p) in enumerate(zip(level, level_parents, strict=True)):
                global_rotations[k] = level_rotations[:, i]
                positions[k] = positions[p] + level_offsets[:, i]
        return joints, torch.stack(global_rotations, dim=1), torch.stack(positions, dim=1)

    def _skin(
        self,
        which: torch.Tensor | None,
        rotations: torch.Tensor,
        betas: torch.Tensor,
        joints: torch.Tensor,
        global_rotations: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        """Returns the posed vertices (B, n, 3): all of them, or those that `which` lists."""
        b = len(rotations)
        identity = torch.eye(3, device=rotations.device, dtype=rotations.dtype)
        feature = (rotations[:, 1:] - identity).reshape(b, -1)  # (B, 135), each matrix row by row
        template, shapedirs, posedirs, weights = self.v_template, self.shapedirs, self.posedirs, self.lbs_weights
        if which is not None:
            template, shapedirs, weights = (t.index_select(0, which) for t in (template, shapedirs, weights))
            posedirs = posedirs.view(len(posedirs), -1, 3).index_select(1, which).flatten(1)  # (135, n * 3)
        shaped = template + torch.einsum("vxs,bs->bvx", shapedirs, betas)
        corrected = shaped + (feature @ posedirs).view(b, -1, 3)
        # v = sum_k w_k (G_k (x - J_k) + T_k), with the weights applied to the transforms first
        offsets = positions - (global_rotations @ joints[..., None])[..., 0]  # (B, J, 3)
        blended = torch.einsum("vj,bjxy->bvxy", weights, global_rotations)
        translations = torch.einsum("vj,bjx->bvx", weights, offsets)
        return (blended @ corrected[..., None])[..., 0] + translations

    def _keypoints(self, positions: torch.Tensor, tips: torch.Tensor) -> torch.Tensor:
        together = torch.cat([positions, tips], dim=1)
        # Without an index tensor, which would have to be uploaded.
        return torch.stack([together[:, i] for i in self.topology.order], dim=1)
