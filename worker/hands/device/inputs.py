"""Cuts the networks' inputs out of pictures in the arena, on the device: letterboxed views and upright crops.

Both give what OpenCV gives on the CPU (:class:`worker.hands.pyramid.Pyramid`), but for a grey level in few pixels. Each input
is described by a row of numbers, so that inputs of different pictures are computed together, and shapes never depend on values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.hands.device.arena import Placed, level_starts
from worker.hands.geometry import RotatedSquare, View
from worker.hands.pyramid import cut_of, level_of, level_size, pixel_matrix

Rows = NDArray[np.float64]
"""(N, columns): one row for each input. As float64, because pixels of the arena are counted."""

VIEW_COLUMNS = 10
CROP_COLUMNS = 9


def view_rows(placed: Placed, views: Iterable[View], size: int) -> Rows:
    """Returns (N, 10) for views.

    The columns: the level's first pixel and its width; x, y, columns, rows in it; x, y, width, height in the input.
    """
    rows = _rows_of_views(tuple(views), size, placed.width, placed.height).copy()
    rows[:, 0] += placed.starts[0]
    return rows


@functools.lru_cache(maxsize=256)
def _rows_of_views(views: tuple[View, ...], size: int, width: int, height: int) -> Rows:
    """Returns the rows of a picture at the beginning of the arena: those of all pictures of a camera are the same."""
    starts, _ = level_starts(width, height)
    rows = []
    for view in views:
        cut = cut_of(view, size, width, height)
        columns, _ = level_size(cut.level, width, height)
        rows.append((starts[cut.level], columns, cut.x, cut.y, cut.columns, cut.rows, *cut.shown.letterbox(size)))
    return np.array(rows, np.float64).reshape(-1, VIEW_COLUMNS)


def crop_rows(placed: Placed, squares: Iterable[RotatedSquare], size: int) -> Rows:
    """Returns (N, 9) for rotated squares: the level's first pixel, width and height, and the matrix to its pixels."""
    rows = []
    for square in squares:
        level = level_of(square.side / size, placed.width, placed.height)
        sides = level_size(level, placed.width, placed.height)
        rows.append((placed.starts[level], *sides, *pixel_matrix(square, size, level).reshape(-1)))
    return np.array(rows, np.float64).reshape(-1, CROP_COLUMNS)


def letterboxed(pixels: Tensor, rows: Tensor, size: int) -> Tensor:
    """Returns views in square inputs, shrunk by area averages or enlarged bilinearly: matrix products.

    Args:
        pixels: (P, 3) uint8, the arena.
        rows: (N, 10) float64, see `view_rows`.
        size: side of the input.

    Returns:
        (N, size, size, 3) float32, whole numbers 0..255, RGB, with black bars.
    """
    # The level is less than twice as fine as the input, so that twice the input's size is always enough.
    taps = torch.arange(2 * size, device=pixels.device)
    start, stride, x, y, columns, lines = (column[:, None] for column in rows[:, :6].long().unbind(1))
    across = torch.minimum(taps, columns - 1) + x
    down = torch.minimum(taps, lines - 1) + y
    shown = _picked(pixels, (start + down * stride)[:, :, None] + across[:, None, :])
    shrinks = (torch.maximum(columns, lines) > size)[:, :, None]
    horizontal, vertical = (_Weights(rows[:, at], rows[:, at + 2], rows[:, at - 2], size) for at in (6, 7))
    count = len(rows)
    # (N, source columns, source rows * 3) -> (N, columns, source rows * 3) -> (N, rows, columns * 3)
    narrow = torch.bmm(torch.where(shrinks, horizontal.area, horizontal.left + horizontal.right),
                       shown.transpose(1, 2).flatten(2))  # fmt: skip
    narrow = torch.where(shrinks, narrow, (narrow / 16).floor())
    narrow = narrow.view(count, size, 2 * size, 3).transpose(1, 2).flatten(2)
    low = torch.bmm(torch.where(shrinks, vertical.area, vertical.left), narrow)
    high = torch.bmm(torch.where(shrinks, 0, vertical.right), narrow)
    # OpenCV enlarges in whole numbers and drops what is below a quarter of a grey level, which is a quarter on average.
    enlarged = (((low / 65536).floor() + (high / 65536).floor() + 2) / 4).floor()
    return _rounded(torch.where(shrinks, low, enlarged).view(count, size, size, 3))


def upright(pixels: Tensor, rows: Tensor, size: int) -> Tensor:
    """Returns rotated squares, sampled bilinearly.

    Args:
        pixels: (P, 3) uint8, the arena.
        rows: (N, 9) float64, see `crop_rows`.
        size: side of the input.

    Returns:
        (N, size, size, 3) float32, whole numbers 0..255, RGB, black outside the picture.
    """
    start, width, height = (column[:, None, None] for column in rows[:, :3].long().unbind(1))
    matrix = rows[:, 3:].float()[:, :, None, None]
    steps = torch.arange(size, device=pixels.device, dtype=torch.float32)
    x = matrix[:, 0] * steps + matrix[:, 1] * steps[:, None] + matrix[:, 2]
    y = matrix[:, 3] * steps + matrix[:, 4] * steps[:, None] + matrix[:, 5]
    left, top = x.floor(), y.floor()
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    # A square may lie far outside; the bound keeps its indices from overflowing.
    left, top = (edge.clamp(-2, 1e6).long() for edge in (left, top))

    def line(row: Tensor) -> Tensor:
        corners = []
        for column in (left, left + 1):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            places = start + row.clamp(min=0).minimum(height - 1) * width + column.clamp(min=0).minimum(width - 1)
            corners.append(_picked(pixels, places) * inside[..., None])
        return corners[0] + right_share * (corners[1] - corners[0])

    upper, lower = line(top), line(top + 1)
    return _rounded(upper + lower_share * (lower - upper))


class _Weights:
    """The share of each source pixel in each input pixel along one axis, 0 in the bars.

    Args:
        first: (N,) the first input pixel of the content.
        length: (N,) input pixels of the content.
        source: (N,) source pixels of the content.
        size: side of the input.

    Attributes:
        area: (N, size, 2 * size) for area averages.
        left: the same for the left, or upper, one of the two pixels of a bilinear interpolation, in 1/2048.
        right: and for the right or lower one.
    """

    def __init__(self, first: Tensor, length: Tensor, source: Tensor, size: int) -> None:
        first, length, source = (each[:, None, None] for each in (first, length, source))
        target = torch.arange(size, device=first.device)[:, None] - first
        pixel = torch.arange(2 * size, device=first.device)
        inside = (target >= 0) & (target < length)
        scale = source / length
        begin = target * scale
        area = (torch.minimum(begin + scale, pixel + 1) - torch.maximum(begin, pixel)).clamp(min=0) / scale
        # In float64 until here: errors of float32 would move one pixel in a hundred by a grey level.
        self.area = (area * inside).float()
        middle = ((target + 0.5) * scale - 0.5).float()
        left = middle.floor()
        share = ((middle - left) * 2048).round()
        self.left, self.right = (
            (pixel == place.clamp(min=0).minimum(source - 1)) * weight * inside
            for place, weight in ((left, 2048 - share), (left + 1, share))
        )


def _picked(pixels: Tensor, places: Tensor) -> Tensor:
    """Returns (..., 3) float32 of the pixels at (...) places."""
    return pixels.index_select(0, places.flatten()).view(*places.shape, 3).float()


def _rounded(picture: Tensor) -> Tensor:
    """Returns a (..., 3) BGR picture in whole numbers, RGB."""
    return picture.round().clamp(0, 255).flip(-1)
