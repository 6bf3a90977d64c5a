"""The head: a transformer decoder whose single query token attends to the backbone's features.

Whatever doesn't depend on the picture is computed once or not at all: the token's initial vector is a parameter, a
softmax over one token is 1 (so self attention needs neither queries nor keys), and the keys and values of all layers
come from one matrix product, since every layer reads the same features.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from worker.hands.outputs import BETAS, JOINTS


class DecoderLayer(nn.Module):
    """Self attention of the token, cross attention to the features, MLP; each pre-norm with a residual."""

    def __init__(self, dim: int, inner: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm = nn.LayerNorm(dim)
        self.self_value = nn.Linear(dim, inner, bias=False)
        self.self_out = nn.Linear(inner, dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_query = nn.Linear(dim, inner, bias=False)
        self.cross_out = nn.Linear(inner, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, dim)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Takes the token (B, D) and this layer's keys and values (B, nh, T, hs); returns (B, D)."""
        x = x + self.self_out(self.self_value(self.self_norm(x)))
        q = self.cross_query(self.cross_norm(x)).view(len(x), self.heads, 1, -1)  # (B, nh, 1, hs)
        y = F.scaled_dot_product_attention(q, keys, values)  # (B, nh, 1, hs)
        x = x + self.cross_out(y.flatten(1))
        out: torch.Tensor = x + self.fc2(F.gelu(self.fc1(self.mlp_norm(x))))
        return out


class ManoHead(nn.Module):
    """Regresses MANO's pose, shape and camera from features.

    Args:
        dim: width of the token.
        depth: number of layers.
        heads: attention heads.
        head_dim: channels of a head.
        mlp_dim: hidden width of the MLPs.
        context_dim: width of the features.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, head_dim: int, mlp_dim: int, context_dim: int) -> None:
        super().__init__()
        self.depth, self.heads, self.head_dim = depth, heads, head_dim
        self.token = nn.Parameter(torch.empty(dim))
        self.context_kv = nn.Linear(context_dim, depth * 2 * heads * head_dim, bias=False)
        self.layers = nn.ModuleList(DecoderLayer(dim, heads * head_dim, heads, mlp_dim) for _ in range(depth))
        # Rows: the pose (16 x 6), the shape, the camera. The biases include the mean hand that the official head adds.
        self.readout = nn.Linear(dim, JOINTS * 6 + BETAS + 3)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Takes (B, T, C); returns the pose (B, 16, 6), the shape (B, 10) and the camera s, tx, ty (B, 3)."""
        b, t, _ = features.shape
        kv = self.context_kv(features).view(b, t, self.depth, 2, self.heads, self.head_dim)
        kv = kv.permute(2, 3, 0, 4, 1, 5)  # (L, 2, B, nh, T, hs)
        x = self.token.expand(b, -1)  # (B, D)
        for i, layer in enumerate(self.layers):
            x = layer(x, kv[i, 0], kv[i, 1])
        pose, betas, camera = self.readout(x).split([JOINTS * 6, BETAS, 3], dim=-1)
        return pose.view(b, JOINTS, 6), betas, camera
