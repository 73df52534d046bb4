"""Object detection with anchors: priors, decoding, assignment, suppression, augmentation.

The head is that of later YOLOs: a box is told relative to a cell of a grid and to an anchor, a
width and height that is usual for the task (Redmon and Farhadi 2017, 1612.08242, section 2; 2018,
1804.02767, section 2.1), in the form of YOLOv5, whose sizes and places are bounded. M is the number
of right boxes of a batch, N the number of priors of a page, B that of pages.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from agents.configs.yolo_detector import LARGEST_RATIO

_ROUNDS = 100  # of k-means, at most
_LEAST_LEFT = 0.5  # share of a box that is left on a page, below which it is no box any more
_LEAST_ALIKE = 0.7  # overlap from which on boxes vote together
_VOTED_AT_ONCE = 128  # boxes, so that memory is bounded
_TINY = 1e-12


class Priors(NamedTuple):
    """What the outputs of a head are relative to: level by level, row, column, anchor."""

    cells: Tensor  # (N, 2), column and row of the cell
    strides: Tensor  # (N, 2), width and height of the cell in pixels
    anchors: Tensor  # (N, 2), width and height in pixels


class Grid(NamedTuple):
    """Cells of one level of a head over a page."""

    rows: int
    columns: int
    stride: tuple[int, int]  # width and height of a cell in pixels


class Assignment(NamedTuple):
    """Which priors have to find which boxes, (P,) each."""

    page: Tensor  # number in the batch
    prior: Tensor  # number among the priors
    box: Tensor  # number among all boxes of the batch


def kmeans_anchors(sizes: NDArray[np.floating], num: int) -> NDArray[np.float64]:
    """Return anchors (num, 2), widths and heights, by k-means of sizes (n, 2), sorted by area.

    The distance is 1 - IoU of boxes with a common corner (1612.08242, section 2, "dimension
    clusters"). The first centres are the means of equal parts of the sizes, sorted by area, so that
    the result depends on nothing else.
    """
    sizes = np.asarray(sizes, np.float64)
    ordered = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    parts = np.array_split(ordered, min(num, len(ordered)))
    parts += [ordered] * (num - len(parts))  # fewer boxes than anchors
    centres = np.stack([part.mean(axis=0) for part in parts])
    nearest = np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        inside = np.minimum(ordered[:, None], centres).prod(axis=-1)
        union = ordered.prod(axis=1)[:, None] + centres.prod(axis=1) - inside
        before, nearest = nearest, (inside / union).argmax(axis=1)
        if (before == nearest).all():
            break
        for number in np.unique(nearest):
            centres[number] = ordered[nearest == number].mean(axis=0)
    return np.asarray(centres[np.argsort(centres.prod(axis=1), kind="stable")])


def make_priors(anchors: Tensor, grids: Sequence[Grid]) -> Priors:
    """Return the priors of levels with anchors (levels, A, 2) and a grid each."""
    cells, all_strides, all_anchors = [], [], []
    for level, grid in zip(anchors, grids, strict=True):
        rows, columns = torch.meshgrid(
            torch.arange(grid.rows, device=level.device),
            torch.arange(grid.columns, device=level.device), indexing="ij",
        )  # fmt: skip
        cell = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2).expand(-1, len(level), -1)
        cells.append(cell.reshape(-1, 2).float())
        all_anchors.append(level.expand(grid.rows * grid.columns, -1, -1).reshape(-1, 2))
        all_strides.append(level.new_tensor(grid.stride).expand(len(cells[-1]), -1))
    return Priors(torch.cat(cells), torch.cat(all_strides), torch.cat(all_anchors))


def decode_boxes(raw: Tensor, priors: Priors) -> Tensor:
    """Return boxes (…, N, 4) as corners in pixels, of raw outputs (…, N, 4).

    xy = (2σ(t) - 0.5 + cell) · stride; wh = (2σ(t))² · anchor.
    """
    share = 2 * raw.sigmoid()
    middle = (share[..., :2] - 0.5 + priors.cells) * priors.strides
    half = share[..., 2:] ** 2 * priors.anchors / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def assign(
    boxes: Sequence[Tensor], anchors: Tensor, grids: Sequence[Grid], ratio: float = LARGEST_RATIO
) -> Assignment:
    """Return which priors have to find each box of pages (n, 4): those that can tell it well.

    On each level: the anchors of which no side is `ratio` times that of the box or more, or as much
    less; a box with none has the most alike of all anchors. The cell in which the box's middle
    is, and the two next to it on the nearer sides, as far as they are on the page (as YOLOv5 does).
    A prior that two boxes want is for the one whose middle is nearer to the middle of the cell.
    """
    every = torch.cat(list(boxes))
    page = torch.cat([every.new_full((len(b),), n, dtype=torch.long) for n, b in enumerate(boxes)])
    middles, sizes = (every[:, :2] + every[:, 2:]) / 2, (every[:, 2:] - every[:, :2]).clamp(min=1)
    ratios = sizes[:, None, None] / anchors
    worst = torch.maximum(ratios, 1 / ratios).amax(-1)  # (M, levels, A)
    best = worst.flatten(1).argmin(1, keepdim=True)
    fits = (worst < ratio).flatten(1).scatter(1, best, value=True).view_as(worst)
    found, distances, first = [], [], 0
    for level, grid in enumerate(grids):
        box, anchor = torch.nonzero(fits[:, level], as_tuple=True)
        place = middles[box] / middles.new_tensor(grid.stride)
        limits = place.new_tensor([grid.columns, grid.rows])
        cell = torch.minimum(place.floor().clamp(min=0), limits - 1)
        side = torch.where(place - cell < 0.5, -1.0, 1.0)
        steps = torch.stack([torch.zeros_like(side), side * side.new_tensor([1, 0]),
                             side * side.new_tensor([0, 1])])  # fmt: skip
        cells = cell + steps  # (3, P, 2)
        inside = ((cells >= 0) & (cells < limits)).all(-1)
        number = (cells[..., 1] * grid.columns + cells[..., 0]).long() * anchors.shape[1] + anchor
        box = box.expand(3, -1)[inside]
        found.append((page[box], first + number[inside], box))
        distances.append((place - cells - 0.5).abs().amax(-1)[inside])
        first += grid.rows * grid.columns * anchors.shape[1]
    wanted = Assignment(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    order = torch.cat(distances).argsort(stable=True)
    priors, where = torch.unique(
        wanted.page[order] * first + wanted.prior[order], return_inverse=True
    )
    ranks = torch.arange(len(order), device=order.device)
    nearest = torch.full_like(priors, len(order)).scatter_reduce(0, where, ranks, "amin")
    return Assignment(*(part[order[nearest]] for part in wanted))


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (P,) of the boxes of each pair, (P, 4) both."""
    corners = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inside: Tensor = (corners[1] - corners[0]).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    union: Tensor = areas[0] + areas[1] - inside
    return inside / union.clamp(min=1e-9)


def suppress(
    boxes: Tensor, scores: Tensor, kinds: Tensor, iou: float, most: int | None = None
) -> Tensor:
    """Return which boxes (n, 4) are kept, the surest first: non-maximum suppression (torchvision).

    A box is left out if it overlaps a surer one of its own kind by more than `iou`.
    """
    # In double precision, as torchvision puts kinds far apart on the page to tell them.
    kept: Tensor = batched_nms(boxes.double(), scores.double(), kinds, iou)
    return kept[:most]


def vote(boxes: Tensor, scores: Tensor, kinds: Tensor, kept: Tensor) -> Tensor:
    """Box voting: the mean of each kept box and what was suppressed for it, weighted by score.

    Of the boxes (n, 4) of its own kind that overlap it by 0.7 or more, itself among them (Gidaris
    and Komodakis 2015, 1505.01749, section 3.3). Returns (m, 4), of the m that are kept.
    """
    means = [boxes[:0]]
    for some in torch.split(kept, _VOTED_AT_ONCE):
        alike = (box_iou(boxes[some], boxes) >= _LEAST_ALIKE) & (kinds[some, None] == kinds)
        weights = alike * scores
        means.append(weights @ boxes / weights.sum(1, keepdim=True).clamp(min=_TINY))
    voted = torch.cat(means)
    if len(voted):  # by rounding, a mean can be outside of all that it is a mean of
        voted = voted.clamp(boxes.amin(0), boxes.amax(0))
    return voted


def mosaic(
    images: Tensor, boxes: Sequence[Tensor], kinds: Sequence[Tensor], share: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Mosaic augmentation: some pages become four quarters of four pages of the batch.

    The quarters meet in a random place and keep the sizes of what is on them, unlike in the paper
    (Bochkovskiy et al. 2020, 2004.10934, section 3.4). Boxes are cut at the edges; of those of
    which less than half is left, and of their ink, nothing is told.
    """
    num, _, height, width = images.shape
    chosen = (torch.rand(num) < share).tolist()
    others = torch.randint(num, (num, 4)).tolist()
    places = (torch.rand(num, 2) * 0.5 + 0.25).tolist()
    mixed, all_boxes, all_kinds = images.clone(), list(boxes), list(kinds)
    for page in (page for page in range(num) if chosen[page]):
        x, y = round(places[page][0] * width), round(places[page][1] * height)
        quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        cut = []
        for other, (left, top, right, bottom) in zip(others[page], quarters, strict=True):
            mixed[page, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
            cut.append(clipped(boxes[other], kinds[other], (left, top, right, bottom)))
        all_boxes[page], all_kinds[page] = (torch.cat(parts) for parts in zip(*cut, strict=True))
    return mixed, all_boxes, all_kinds


def clipped(
    boxes: Tensor, kinds: Tensor, within: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor]:
    """Return boxes (n, 4) cut at the edges of a rectangle, and kinds, of which half is within."""
    low, high = boxes.new_tensor(within[:2]), boxes.new_tensor(within[2:])
    corners = boxes.view(-1, 2, 2)
    cut = torch.minimum(torch.maximum(corners, low), high)
    areas = [(each[:, 1] - each[:, 0]).prod(-1) for each in (cut, corners)]
    keep = areas[0] >= _LEAST_LEFT * areas[1].clamp(min=1e-9)
    return cut.view(-1, 4)[keep], kinds[keep]


def rescale_and_shift(
    images: Tensor, boxes: Sequence[Tensor], kinds: Sequence[Tensor], scale: float, shift: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Scale and translate each page (B, C, H, W) at random; paper, 0, comes in at the sides.

    Args:
        images: of the pages.
        boxes: of each page (n, 4).
        kinds: of each page (n,).
        scale: pages are enlarged up to 1 + scale times and reduced as much.
        shift: largest translation, as a share of a page.
    """
    num, _, height, width = images.shape
    limit = math.log1p(scale)
    factors = torch.exp((torch.rand(num, 1) * 2 - 1) * limit).to(images)
    moves = ((torch.rand(num, 2) * 2 - 1) * shift).to(images)
    matrices = torch.zeros(num, 2, 3, device=images.device)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / factors[:, 0]
    matrices[:, :, 2] = -2 * moves / factors
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    size = images.new_tensor([width, height])
    all_boxes, all_kinds = [], []
    for page_boxes, page_kinds, factor, move in zip(boxes, kinds, factors, moves, strict=True):
        corners = (page_boxes.view(-1, 2, 2) - size / 2) * factor + size / 2 + move * size
        cut, left = clipped(corners.view(-1, 4), page_kinds, (0.0, 0.0, width, height))
        all_boxes.append(cut)
        all_kinds.append(left)
    return moved, all_boxes, all_kinds
