"""Training images moved a little, so that a network learns more of them than there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training import parallel


def augmented(images: Tensor, shift: int, distort: float = 0.0) -> Tensor:
    """Pixels (N, 1, H, W) in [0, 1] of uint8 images, each shifted and distorted by up to so much, if by any."""
    pixels = (shifted(images, shift) if shift else images).float() / 255
    return distorted(pixels, distort) if distort else pixels


def distorted(pixels: Tensor, most: float) -> Tensor:
    """Images (N, 1, H, W) each turned by up to `most` radians, sheared and scaled by as much; zeros come in."""
    angle, shear, wide, high = (most * (2 * parallel.rand(len(pixels), pixels.device) - 1) for _ in range(4))
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack([cosine, shear * cosine - sine, sine, shear * sine + cosine], 1).unflatten(1, (2, 2))
    maps = F.pad(rows * torch.stack([wide, high], 1).exp()[:, None], (0, 1))
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)


def shifted(images: Tensor, most: int) -> Tensor:
    """Images (N, 1, H, W) each moved by up to `most` whole pixels down or up and left or right; zeros come in."""
    count, _, height, width = images.shape
    down, right = ((parallel.rand(count, images.device) * (2 * most + 1)).long().clamp(max=2 * most) for _ in range(2))
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, [most] * 4)[which, 0, rows[:, :, None], columns[:, None, :]][:, None]
