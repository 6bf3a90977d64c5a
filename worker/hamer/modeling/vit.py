"""The backbone: a plain vision transformer as in ViTPose (Xu et al., NeurIPS 2022), without a class token."""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

LAYER_NORM_EPS = 1e-6
PATCH_PADDING = 2
"""Zeros around the normalised picture: each patch starts this many pixels above and left of a multiple of its side."""


class Attention(nn.Module):
    """Multi-head self attention. The rows of `qkv` are all of Q, all of K, all of V; inside each, head after head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes and returns (B, T, D)."""
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # each (B, nh, T, hs)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, nh, T, hs)
        out: torch.Tensor = self.proj(y.transpose(1, 2).reshape(b, t, d))
        return out


class Block(nn.Module):
    """One pre-norm transformer block.

    The residual stream has the dtype of the LayerNorms, and the matrices have their own: so the same code serves full
    precision, pure 16-bit, and 16-bit matrices with a float32 stream.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.fc1 = nn.Linear(dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes and returns (B, T, D)."""
        dtype = self.fc1.weight.dtype
        x = x + self.attn(self.norm1(x).to(dtype))
        out: torch.Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x).to(dtype))))
        return out


class ViT(nn.Module):
    """Computes one feature vector per patch of a picture.

    Args:
        dim: width of a token.
        depth: number of blocks.
        heads: attention heads of `dim / heads` channels.
        mlp_dim: hidden width of the blocks' MLPs.
        patch: side of a patch in pixels.
        tokens: patches in a picture.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, mlp_dim: int, patch: int, tokens: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, stride=patch, padding=PATCH_PADDING)
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_dim) for _ in range(depth))
        self.last_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Takes normalised RGB (B, 3, H, W); returns (B, T, D) float32, the patches row by row."""
        x = self.patch_embed(images.to(self.patch_embed.weight.dtype))  # (B, D, rows, columns)
        # Contiguous, or else every block would read and write the residual stream with the strides of the convolution.
        x = x.flatten(2).transpose(1, 2).contiguous().to(self.pos_embed.dtype) + self.pos_embed  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        features: torch.Tensor = self.last_norm(x).float()
        return features
