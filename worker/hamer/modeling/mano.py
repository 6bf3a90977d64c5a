"""MANO (Romero et al., SIGGRAPH Asia 2017): a right hand's joints and surface from its pose and shape.

Linear blend skinning with pose correctives. Joints and finger tips alone need a hundredth of the mesh's work: the joint
regressor is folded into template and shape directions, and a tip is one vertex.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ManoTopology:
    """What of MANO steers the computation rather than enters it; constant, so the control flow is static.

    Attributes:
        parents: (16) parent of each joint, -1 for the root; a parent comes before its children.
        tips: (5) vertices at the finger tips.
        order: (21) where each of the 21 key points lies in the 16 joints followed by the 5 tips.
    """

    parents: tuple[int, ...]
    tips: tuple[int, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.parents or self.parents[0] != -1 or any(not 0 <= p < k for k, p in enumerate(self.parents) if k):
            raise ValueError(f"parents must be -1 and then earlier joints; got {self.parents}")
        if any(not 0 <= i < len(self.parents) + len(self.tips) for i in self.order):
            raise ValueError(
                f"order must point into {len(self.parents)} joints and {len(self.tips)} tips; got {self.order}"
            )

    def levels(self) -> list[list[int]]:
        """Gives the joints by their distance from the root, the root itself left out."""
        depth = [0] * len(self.parents)
        for k, parent in enumerate(self.parents[1:], start=1):
            depth[k] = depth[parent] + 1
        return [[k for k, d in enumerate(depth) if d == level] for level in range(1, max(depth) + 1)]


class Mano(nn.Module):
    """The hand model. Metres; the root turns about its own joint and isn't moved.

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
        # A tensor of its own, since an index list would be uploaded in every forward.
        self.register_buffer("tips", torch.empty(len(topology.tips), dtype=torch.int64))
        self.levels = topology.levels()

    def forward(self, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes absolute rotations (B, 16, 3, 3), no mean pose added, and shapes (B, 10).

        Returns:
            The 21 key points (B, 21, 3) and the vertices (B, V, 3).
        """
        joints, turned, posed = self._chain(rotations, betas)
        vertices = self._skin(None, rotations, betas, joints, turned, posed)
        return self._keypoints(posed, vertices.index_select(1, self.tips)), vertices

    def keypoints(self, rotations: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        """Gives the same 21 key points (B, 21, 3) without the mesh."""
        joints, turned, posed = self._chain(rotations, betas)
        tips = self._skin(self.tips, rotations, betas, joints, turned, posed)
        return self._keypoints(posed, tips)

    def _chain(self, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gives the joints at rest (B, J, 3), and each one's rotation (B, J, 3, 3) and place (B, J, 3) in the pose."""
        parents = self.topology.parents
        joints = self.j_template + torch.einsum("jxs,bs->bjx", self.j_shapedirs, betas)
        turned: list[torch.Tensor] = [rotations[:, 0]] * len(parents)
        posed: list[torch.Tensor] = [joints[:, 0]] * len(parents)
        for level in self.levels:  # the fingers side by side: 3 steps, not 15
            above = [parents[k] for k in level]
            parent_turned = torch.stack([turned[p] for p in above], dim=1)  # (B, n, 3, 3)
            bones = torch.stack([joints[:, k] - joints[:, p] for k, p in zip(level, above, strict=True)], dim=1)
            local = torch.stack([rotations[:, k] for k in level], dim=1)
            level_turned = parent_turned @ local
            level_moved = (parent_turned @ bones[..., None])[..., 0]
            for i, (k, p) in enumerate(zip(level, above, strict=True)):
                turned[k] = level_turned[:, i]
                posed[k] = posed[p] + level_moved[:, i]
        return joints, torch.stack(turned, dim=1), torch.stack(posed, dim=1)

    def _skin(
        self,
        which: torch.Tensor | None,
        rotations: torch.Tensor,
        betas: torch.Tensor,
        joints: torch.Tensor,
        turned: torch.Tensor,
        posed: torch.Tensor,
    ) -> torch.Tensor:
        """Gives the posed vertices (B, n, 3), all of them or those that `which` names."""
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
        offsets = posed - (turned @ joints[..., None])[..., 0]  # (B, J, 3)
        blended = torch.einsum("vj,bjxy->bvxy", weights, turned)
        moved = torch.einsum("vj,bjx->bvx", weights, offsets)
        return (blended @ corrected[..., None])[..., 0] + moved

    def _keypoints(self, posed: torch.Tensor, tips: torch.Tensor) -> torch.Tensor:
        together = torch.cat([posed, tips], dim=1)
        return torch.stack([together[:, i] for i in self.topology.order], dim=1)  # no index tensor: nothing to upload
