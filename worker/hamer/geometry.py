"""The geometry around the network: the square of the frame that a crop shows, and the cameras that lead back to it.

Values that describe the frame are numpy float64; pixels are torch tensors. Pixel coordinates are indices: (0, 0) is the
centre of the top left pixel. The network always sees a right hand: a left hand's crop is mirrored before it, and its
results afterwards.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray

from worker.hands.geometry import Doubles

RESCALE_FACTOR = 2.0
"""The crop shows twice the hand's box, as in the official demo and the HInt evaluation."""

ASPECT = 3 / 4
"""Width over height of the network's input; the square crop's outer columns are cut off."""


@dataclass(frozen=True)
class Crops:
    """The squares to crop, as parallel arrays over N hands.

    Attributes:
        centers: (N, 2) centre of each square, x and y in pixels of the frame.
        sizes: (N,) side of each square in pixels of the frame.
        mirrored: (N,) bool, true for left hands.
    """

    centers: Doubles
    sizes: Doubles
    mirrored: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.sizes)
        if self.centers.shape != (n, 2) or self.sizes.shape != (n,) or self.mirrored.shape != (n,):
            shapes = f"{self.centers.shape}, {self.sizes.shape}, {self.mirrored.shape}"
            raise ValueError(f"centers, sizes, mirrored must be (N, 2), (N,), (N,); got {shapes}")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, which: NDArray[np.bool_]) -> "Crops":
        return Crops(self.centers[which], self.sizes[which], self.mirrored[which])


def crops_of_boxes(boxes: NDArray[np.floating], is_right: NDArray[np.bool_]) -> Crops:
    """Returns the square crop of each box: the box times RESCALE_FACTOR, widened to 3:4; its longer side is the square's.

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in pixels, tight around the hand; may reach beyond the frame.
        is_right: (N,) which hands are right ones.

    >>> crops_of_boxes(np.array([[0.0, 0.0, 30.0, 20.0]]), np.array([True])).sizes  # 2 * 30 wide needs 80 of height
    array([80.])
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    width, height = RESCALE_FACTOR * (high - low).T
    return Crops((low + high) / 2, np.maximum(height, width / ASPECT), ~np.asarray(is_right, bool).reshape(-1))


def blur_sigma(size: float, image_size: int) -> float:
    """Returns the standard deviation (pixels) of the Gaussian that keeps a large square from aliasing; 0 means none.

    Small shrink factors need none, and the weakest Gaussians have a `blur_radius` of 0, so they change nothing.
    """
    shrink = size / image_size / 2
    return (shrink - 1) / 2 if shrink > 1.1 else 0.0


def blur_radius(sigma: float) -> int:
    """Returns how many pixels a Gaussian that is cut off at 4 sigma reaches to each side."""
    return int(4 * sigma + 0.5)


def sample_crops(
    frame: torch.Tensor,
    crops: Crops,
    mean: torch.Tensor,
    std: torch.Tensor,
    *,
    image_size: int = 256,
    columns: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Samples the crops from a frame, on the frame's device and without waiting for it.

    The sharp crops of a frame are sampled in one call. A large crop is blurred first, within its region of the frame.

    Args:
        frame: (H, W, 3) uint8, BGR.
        crops: the squares.
        mean: (3,) float32, RGB in [0, 1], on the frame's device.
        std: (3,) like `mean`.
        image_size: pixels to a side of the square.
        columns: first column and last column + 1 to return; by default the middle 3:4, the network's input.

    Returns:
        (N, 3, image_size, columns) float32, RGB, normalised. Pixels outside the frame are black.
    """
    first, last = columns or visible_columns(image_size)
    xs, ys = _sample_positions(crops, image_size, first, last)
    sigmas = np.array([blur_sigma(size, image_size) for size in crops.sizes])
    sharp = np.flatnonzero(sigmas == 0)
    groups = [sharp] * bool(len(sharp)) + [np.array([n]) for n in np.flatnonzero(sigmas)]
    pixels: list[torch.Tensor] = [frame.new_empty(0)] * len(crops)  # each (3, h, w), BGR, 0..255
    for group in groups:
        samples = _sample_region(frame, xs[group], ys[group], float(sigmas[group[0]]))
        for n, sample in zip(group, samples, strict=True):
            pixels[n] = sample
    if not pixels:
        return mean.new_empty(0, 3, image_size, last - first)
    normalised = torch.stack(pixels).flip(1) - 255.0 * mean.view(3, 1, 1)
    return normalised.div_(255.0 * std.view(3, 1, 1))


def visible_columns(image_size: int) -> tuple[int, int]:
    """Returns the columns of the square crop that the network sees: the middle three quarters (32 to 224 of 256)."""
    margin = round(image_size * (1 - ASPECT) / 2)
    return margin, image_size - margin


def _sample_positions(crops: Crops, image_size: int, first: int, last: int) -> tuple[Doubles, Doubles]:
    """Returns the frame's x of each column (N, w) and y of each row (N, h) of the crops, in pixels."""
    step = (crops.sizes / image_size)[:, None]
    direction = np.where(crops.mirrored, -1.0, 1.0)[:, None]
    half = image_size // 2  # the centre is at this index, not between two
    xs = crops.centers[:, :1] + direction * step * (np.arange(first, last) - half)
    ys = crops.centers[:, 1:] + step * (np.arange(image_size) - half)
    return xs, ys


def _sample_region(frame: torch.Tensor, xs: Doubles, ys: Doubles, sigma: float) -> torch.Tensor:
    """Samples grids of columns (N, w) and rows (N, h), reading only the region of the frame that they need."""
    reach = blur_radius(sigma) + 2  # a sample depends on pixels up to this far away
    x0, x1 = _span(xs, reach, frame.shape[1])
    y0, y1 = _span(ys, reach, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return torch.zeros(len(xs), 3, ys.shape[1], xs.shape[1], device=frame.device)
    planes = frame[y0:y1, x0:x1].permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.contiguous_format)
    if sigma:
        return _bilinear(_gaussian(planes, sigma), xs - x0, ys - y0)
    # The official code warps 8-bit pictures unless it blurs; blurred ones have fractions.
    return _bilinear(planes, xs - x0, ys - y0).round_()


def _span(positions: Doubles, reach: int, length: int) -> tuple[int, int]:
    """Returns the pixels [first, last) of a side of the frame within `reach` of the samples."""
    low, high = np.floor(positions.min()) - reach, np.ceil(positions.max()) + reach + 1
    return int(np.clip(low, 0, length)), int(np.clip(high, 0, length))


def _bilinear(planes: torch.Tensor, xs: Doubles, ys: Doubles) -> torch.Tensor:
    """Samples (1, 3, H, W) planes at grids of columns (N, w) and rows (N, h); returns (N, 3, h, w)."""
    height, width = planes.shape[-2:]
    n, h, w = len(xs), ys.shape[1], xs.shape[1]
    # align_corners=False has pixel x at (2x + 1)/W - 1: the same points as 2x/(W - 1) - 1 with True; no 0/0 at W = 1.
    x = torch.from_numpy(((2 * xs + 1) / width - 1).astype(np.float32)).to(planes.device, non_blocking=True)
    y = torch.from_numpy(((2 * ys + 1) / height - 1).astype(np.float32)).to(planes.device, non_blocking=True)
    grid = torch.stack([x[:, None, :].expand(n, h, w), y[:, :, None].expand(n, h, w)], dim=-1)  # (N, h, w, 2)
    # All hands are rows of one grid, so one picture serves them all; as a batch of N, the picture would be copied N times.
    samples = F.grid_sample(planes, grid.view(1, n * h, w, 2), "bilinear", "zeros", align_corners=False)
    return samples.view(3, n, h, w).transpose(0, 1)


def _gaussian(planes: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blurs (1, 3, H, W), repeating the border's pixels outwards.

    It adds weighted, shifted planes: on a CPU that is ten times as fast as a convolution with one channel, and on a GPU
    it avoids cuDNN's ten-bit products.
    """
    radius = blur_radius(sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded, length = F.pad(planes, padding, "replicate"), planes.shape[axis]
        blurred = torch.zeros_like(planes)
        for shift, weight in enumerate(weights.tolist()):
            blurred.add_(padded.narrow(axis, shift, length), alpha=weight)
        planes = blurred
    return planes


def rotations_from_6d(sixes: torch.Tensor) -> torch.Tensor:
    """Converts (..., 6) to rotation matrices (..., 3, 3): two columns, made orthonormal, and their cross product.

    The six numbers are one column after the other (Zhou et al., CVPR 2019), not interleaved as in HMR.
    """
    a, b = sixes[..., :3], sixes[..., 3:]
    r1 = F.normalize(a, dim=-1)
    r2 = F.normalize(b - (r1 * b).sum(-1, keepdim=True) * r1, dim=-1)
    return torch.stack([r1, r2, torch.linalg.cross(r1, r2)], dim=-1)


def project_to_crop(points: torch.Tensor, camera: torch.Tensor, focal: float, image_size: int) -> torch.Tensor:
    """Projects points (N, K, 3) in metres with cameras (N, 3) of s, tx, ty to points (N, K, 2) of the crop.

    0 is the centre of the crop and +-0.5 its border. The crop's camera has its principal point in the centre; the hand
    is at (tx, ty, 2 focal / (image_size s)) from it.
    """
    depth = 2 * focal / (image_size * camera[:, 0] + 1e-9)
    shifted = points + torch.stack([camera[:, 1], camera[:, 2], depth], dim=-1)[:, None]
    return (focal / image_size) * shifted[..., :2] / shifted[..., 2:]


def crop_to_frame(points: Doubles, crops: Crops) -> Doubles:
    """Converts points of the crop (N, K, 2), +-0.5 at its border, to pixels of the frame; un-mirrors left hands."""
    sides = np.where(crops.mirrored, -1.0, 1.0)
    direction = np.stack([sides, np.ones_like(sides)], axis=-1)[:, None]  # (N, 1, 2)
    return np.asarray(crops.centers[:, None] + crops.sizes[:, None, None] * direction * points)


def unmirror(points: Doubles, crops: Crops) -> Doubles:
    """Un-mirrors points (N, K, 3) in metres: negates the x of left hands."""
    sides = np.where(crops.mirrored, -1.0, 1.0)
    return np.asarray(points * np.stack([sides, np.ones_like(sides), np.ones_like(sides)], axis=-1)[:, None])


def frame_focal(width: int, height: int, focal: float, image_size: int) -> float:
    """Returns the focal length in pixels that HaMeR assumes for a frame: a convention, with a view of about 3 degrees."""
    return focal / image_size * max(width, height)


def frame_translations(cameras: Doubles, crops: Crops, width: int, height: int, focal: float) -> Doubles:
    """Returns each hand's position (N, 3) in the camera of the whole frame: x right, y down, z forward.

    Args:
        cameras: (N, 3) s, tx, ty from the network.
        crops: their squares.
        width: of the frame in pixels.
        height: of the frame in pixels.
        focal: of the frame's camera in pixels. z is metric only with the camera's true focal length, not with
            `frame_focal`'s convention.
    """
    scale, tx, ty = cameras.T
    sides = np.where(crops.mirrored, -1.0, 1.0)
    extent = crops.sizes * scale + 1e-9
    x = 2 * (crops.centers[:, 0] - width / 2) / extent + sides * tx
    y = 2 * (crops.centers[:, 1] - height / 2) / extent + ty
    return np.stack([x, y, 2 * focal / extent], axis=-1)


def project_to_frame(points: Doubles, translations: Doubles, width: int, height: int, focal: float) -> Doubles:
    """Projects un-mirrored points in metres (N, K, 3) to pixels (N, K, 2) of the whole frame."""
    placed = points + translations[:, None]
    return np.asarray(focal * placed[..., :2] / placed[..., 2:] + np.array([width / 2, height / 2]))
