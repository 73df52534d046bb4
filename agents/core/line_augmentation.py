"""Augmentation of line images: shear, scale, elastic distortion, stroke width, contrast.

Each line of a batch is distorted on its own, by numbers of torch's global generator, as dropout is.
The ranges are those that pay in handwriting recognition (Wigington et al. 2017; Retsinas et al.
2022, 2404.11339), at a strength of 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_SHEAR = 0.35  # columns per row
_STRETCH, _GROW = 0.12, 0.15  # of the width and of the height, as shares
_RISE = 0.06  # of the height: translation up or down
_SLOPE = 0.012  # rows per column
_ELASTIC = 0.03  # of the height: standard deviation of the nodes' displacements
_NODES, _NODE_COLUMNS = 4, 24  # nodes over the height; pixels between nodes along a line
_STROKE = 0.5  # share of the next thinner or thicker stroke that is mixed in
_GAMMA, _PALE = 0.3, 0.25  # exponent of the darkness, as a logarithm; loss of darkness


def augment_lines(image: Tensor, width: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return distorted lines (B, 1, H, W), and their widths in pixels (B,); labels are as before.

    Args:
        image: 1 is ink, 0 is paper; padded at the right.
        width: of each line without padding, in pixels (B,).
        strength: times the ranges of all distortions; 0: none.
    """
    num, _, height, full = image.shape

    def uniform(reach: float) -> Tensor:
        return (2 * torch.rand(num, 1, 1, device=image.device) - 1) * reach * strength

    rows = torch.arange(height, device=image.device)[:, None] - height / 2
    columns = torch.arange(full, device=image.device)[None]
    stretch = 1 + uniform(_STRETCH)
    middle = width.view(-1, 1, 1) / 2
    x = columns / stretch + uniform(_SHEAR) * rows
    y = rows / (1 + uniform(_GROW)) + uniform(_RISE) * height + uniform(_SLOPE) * (columns - middle)
    nodes = torch.randn(num, 2, _NODES, max(2, full // _NODE_COLUMNS), device=image.device)
    elastic = F.interpolate(nodes, (height, full), mode="bilinear", align_corners=True)
    elastic = elastic * (_ELASTIC * height * strength)
    x, y = x + elastic[:, 0], y + elastic[:, 1] + height / 2
    grid = torch.stack([(2 * x + 1) / full - 1, (2 * y + 1) / height - 1], -1)
    drawn = F.grid_sample(image, grid.to(image.dtype), align_corners=False)
    drawn = _stroke_width(drawn, uniform(_STROKE)[:, None])
    gamma = uniform(_GAMMA)[:, None].exp()
    pale = 1 - _PALE * strength * torch.rand(num, 1, 1, 1, device=image.device)
    drawn = drawn.clamp(1e-4, 1) ** gamma * pale.clamp(min=0.1)
    new_width = (width * stretch.view(-1)).round().long().clamp(1, full)
    is_own = torch.arange(full, device=image.device) < new_width[:, None]
    return drawn * is_own[:, None, None], new_width


def _stroke_width(image: Tensor, change: Tensor) -> Tensor:
    """Return images with strokes up to a pixel thicker (change > 0) or thinner (B, 1, 1, 1)."""
    thick, thin = F.max_pool2d(image, 3, 1, 1), -F.max_pool2d(-image, 3, 1, 1)
    other = torch.where(change > 0, thick, thin)
    return image + change.abs() * (other - image)
