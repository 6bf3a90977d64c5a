"""HaMeR (Pavlakos et al., CVPR 2024): backbone, head and hand model, composed."""

from dataclasses import dataclass

import torch
from torch import nn

from worker.hamer.geometry import project_to_crop, rotations_from_6d
from worker.hamer.modeling.head import ManoHead
from worker.hamer.modeling.mano import Mano
from worker.hamer.modeling.vit import ViT


@dataclass(frozen=True)
class HandOutputs:
    """The network's outputs for B crops, float32; left hands are still mirrored, so every hand is a right one.

    Attributes:
        camera: (B, 3) s, tx, ty: the weak perspective camera of the crop.
        rotations: (B, 16, 3, 3) the rotations of wrist and fingers, without a mean pose, in MANO's order.
        betas: (B, 10) shape.
        keypoints_3d: (B, 21, 3) metres; wrist, then thumb to little finger, each from its root to its tip.
        keypoints_2d: (B, 21, 2) in the crop, 0 at the centre and +-0.5 at the border.
        spread: (B,) sine of the angle between the two columns of the worst 6D rotation; near 0 that rotation is arbitrary.
        vertices: (B, 778, 3) metres, or None if only the joints were requested.
    """

    camera: torch.Tensor
    rotations: torch.Tensor
    betas: torch.Tensor
    keypoints_3d: torch.Tensor
    keypoints_2d: torch.Tensor
    spread: torch.Tensor
    vertices: torch.Tensor | None


class Hamer(nn.Module):
    """The whole network. Its forward neither waits for the device nor branches on values, so a graph can capture it.

    Args:
        backbone: picture to features.
        head: features to MANO's parameters.
        mano: parameters to a hand.
        focal: focal length in pixels of the crop's camera.
        image_size: side of the square crop in pixels; the backbone sees its middle columns.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: ViT, head: ManoHead, mano: Mano, *, focal: float, image_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.mano = mano
        self.register_buffer("mean", torch.empty(3))  # of the crops' pixels, RGB in [0, 1]
        self.register_buffer("std", torch.empty(3))
        self.focal = focal
        self.image_size = image_size

    def forward(self, images: torch.Tensor, *, mesh: bool = False) -> HandOutputs:
        """Returns the outputs for normalised RGB (B, 3, 256, 192), the middle of the square crops."""
        return self.pose(*self.regress(images), mesh=mesh)

    def regress(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Regresses 6D rotations (B, 16, 6), shapes (B, 10) and cameras (B, 3) from pictures: nearly all of the work."""
        out: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.head(self.backbone(images))
        return out

    def pose(self, sixes: torch.Tensor, betas: torch.Tensor, camera: torch.Tensor, *, mesh: bool) -> HandOutputs:
        """Computes the hand of these parameters, in float32."""
        rotations = rotations_from_6d(sixes)
        vertices: torch.Tensor | None = None
        if mesh:
            keypoints, vertices = self.mano(rotations, betas)
        else:
            keypoints = self.mano.keypoints(rotations, betas)
        projected = project_to_crop(keypoints, camera, self.focal, self.image_size)
        first, second = sixes[..., :3], sixes[..., 3:]
        area = torch.linalg.vector_norm(torch.linalg.cross(first, second), dim=-1)
        lengths = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
        spread = (area / lengths.clamp_min(1e-12)).amin(dim=-1)
        return HandOutputs(camera, rotations, betas, keypoints, projected, spread, vertices)
