"""HaMeR (Pavlakos et al., CVPR 2024): backbone, head and hand model, composed."""

import torch
from torch import nn

from worker.hamer.geometry import project_to_crop, rotations_from_6d
from worker.hamer.modeling.head import ManoHead
from worker.hamer.modeling.mano import Mano
from worker.hamer.modeling.vit import ViT

HandOutputs = dict[str, torch.Tensor]
"""The network's outputs for B crops, float32, each (B, ...), by their names in the table of worker/hands/outputs.py.

Left hands are still mirrored, so every hand is a right one. Points in pixels are those of the crop: 0 is its centre and
+-0.5 its border.
"""


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
        first, second = sixes[..., :3], sixes[..., 3:]
        area = torch.linalg.vector_norm(torch.linalg.cross(first, second), dim=-1)
        lengths = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
        outputs = {
            "cameras": camera,
            "rotations": rotations,
            "betas": betas,
            "spreads": (area / lengths.clamp_min(1e-12)).amin(dim=-1),
        }
        if mesh:
            outputs["keypoints_3d"], outputs["vertices"] = self.mano(rotations, betas)
        else:
            outputs["keypoints_3d"] = self.mano.keypoints(rotations, betas)
        outputs["keypoints_2d"] = project_to_crop(outputs["keypoints_3d"], camera, self.focal, self.image_size)
        return outputs
