"""Training images moved a little, so that a network learns more of them than there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training import parallel


def shifted(images: Tensor, most: int) -> Tensor:
    """Images (N, 1, H, W) each moved by up to `most` whole pixels down or up and left or right; zeros come in."""
    count, _, height, width = images.shape
    down, right = ((parallel.rand(count, images.device) * (2 * most + 1)).long().clamp(max=2 * most) for _ in range(2))
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    return F.pad(images, [most] * 4)[which, 0, rows[:, :, None], columns[:, None, :]][:, None]
