"""Perturbation attribution: occlusion, and RISE.

B images, C channels, H rows, W columns; N masks.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, check_count, check_share, value_error
from visualization.core.inputs import Images, Target, as_images, as_tensor, inspection_mode
from visualization.core.targets import (
    TargetScore,
    batch_slices,
    resolve_target,
    unravel_index,
)
from visualization.core.tracing import NamedLayer

Size = int | tuple[int, int]  # both sides, or (rows, columns)
Fill = float | str | Tensor | NDArray[Any]
FILLS = ("mean", "blur")
_WINDOW, _GRID = 3, 7  # sides that are usual, of smaller images as many as there are pixels
_BLUR_SHARE = 0.1  # standard deviation of the blur, as a share of the side


def replacement(images: Tensor, fill: Fill, model: nn.Module, name: str = "fill") -> Tensor:
    """Return what hidden pixels show (B, C, H, W).

    Args:
        images: (B, C, H, W).
        fill: a number; `mean`, each image's mean of each channel; `blur`, the image without what
            is smaller than a tenth of its side (a Gaussian of that standard deviation); or images
            that broadcast to these.
        model: whose device and type images in `fill` are brought to.
        name: of the argument, for errors.

    Raises:
        ValueError: another word, or a shape that does not broadcast.
    """
    if isinstance(fill, str):
        if fill not in FILLS:
            raise value_error(name, repr(fill), f"a number, {', '.join(FILLS)}, or images")
        if fill == "blur":
            return gaussian_blur(images, [_BLUR_SHARE * side for side in images.shape[2:]])
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if isinstance(fill, (int, float)):
        return torch.full_like(images, float(fill))
    images_in_fill = as_images(fill, model, name)
    if any(a not in (1, b) for a, b in zip(images_in_fill.shape, images.shape, strict=True)):
        problem = f"shape {tuple(fill.shape)} does not go with images {tuple(images.shape)}"
        raise argument_error(name, problem, "that shape, or 1 along any axis")
    return images_in_fill.expand_as(images)


def gaussian_blur(images: Tensor, deviations: Sequence[float]) -> Tensor:
    """Blur images (B, C, H, W) by a Gaussian, whose weights sum to 1 at the borders too.

    Its standard deviations along rows and columns are in pixels, above 0.
    """
    for axis, deviation in zip((2, 3), deviations, strict=True):
        positions = torch.arange(images.shape[axis], device=images.device, dtype=images.dtype)
        distances = (positions[:, None] - positions) / deviation
        images = mix_along(images, (-0.5 * distances**2).exp(), axis)
    return images


def mix_along(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return images whose lines along an axis (S) are mixed by weights (S, S), scaled to sum 1."""
    share = weights / weights.sum(dim=1, keepdim=True)
    mixed: Tensor = torch.tensordot(images, share, ([axis], [1]))
    return mixed.movedim(-1, axis)


def size_pair(size: Size, name: str, most: tuple[int, int], usual: int = 1) -> tuple[int, int]:
    """Return rows and columns of a size; a single number is cut to a side that is shorter.

    Raises:
        ValueError: below 1, or beyond `most`; of a single number beyond both and beyond the usual.
    """
    if isinstance(size, int) and 1 <= size <= max(*most, usual):
        return min(size, most[0]), min(size, most[1])
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(
        1 <= side <= limit for side, limit in zip(both, most, strict=False)
    ):
        raise value_error(name, size, f"1 to {most[0]} rows, 1 to {most[1]} columns")
    return both[0], both[1]


def _window_covers(size: int, window: int, stride: int, like: Tensor) -> Tensor:
    """Return which pixels of a side each window covers (windows, size), 1 or 0, each at least once.

    The first begins at 0; the last ends at the border, cut if it would reach beyond.
    """
    num = -(-(size - window) // stride) + 1
    starts = torch.arange(num, device=like.device)[:, None] * stride
    positions = torch.arange(size, device=like.device)
    return ((positions >= starts) & (positions < starts + window)).to(like.dtype)


@renamed_arguments(layer="target_layer")
def occlusion_map(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    target_layer: NamedLayer | None = None,
    window: Size = _WINDOW,
    stride: Size = 1,
    fill: Fill = 0.0,
    within: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Occlusion sensitivity: how much the score drops where a window hides the image (B, H, W).

    A pixel's number is the mean of score(image) − score(image with the window filled) over the
    windows that cover it, in units of the score (Zeiler & Fergus 1311.2901, section 4.2). Of a
    linear model f(x) = w·x + b, windows of one pixel give Σ_c w x exactly.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        target_layer: dotted name of the layer whose unit is meant; None: the model's output.
        window: its sides in pixels, a number (of an image with fewer rows or columns as many as
            there are) or (rows, columns); all channels are hidden.
        stride: between windows, at most the window. The last window is cut at the border.
        fill: what hidden pixels show, as `replacement` takes it.
        within: boolean (H, W) or (B, H, W): pixels that the score depends on, such as a receptive
            field. Windows that hide none of them are not run; their drop is exactly 0.
        batch_size: occluded images that run at once, which bounds the memory; None:
            at most 256 (on a CPU 64, or 2¹⁶ numbers), of 2²² numbers together.

    Raises:
        ValueError: a window or stride that does not fit; or as `select_target`.
    """
    with inspection_mode(model), torch.no_grad():
        images = as_images(images, model)
        sides = (images.shape[2], images.shape[3])
        windows = size_pair(window, "window", sides, _WINDOW)
        strides = size_pair(stride, "stride", windows)
        rows, columns = (
            _window_covers(*each, images) for each in zip(sides, windows, strides, strict=True)
        )
        target_score = resolve_target(model, images, target, target_layer, batch_size)
        other = replacement(images, fill, model)
        drops = _drops(target_score, images, other, (rows, columns), within).to(images)
        total = torch.einsum("bij,ih,jw->bhw", drops, rows, columns)
        return total / torch.outer(rows.sum(dim=0), columns.sum(dim=0))


def _drops(
    target_score: TargetScore, images: Tensor, other: Tensor, covers: tuple[Tensor, Tensor],
    within: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return the drop of the score for each image and window (B, rows, columns)."""
    rows, columns = covers
    shape = (len(images), len(rows), len(columns))
    base = target_score.on_images(images)
    drops = base.new_zeros(shape)
    relevant = torch.ones(images.shape[0:1] + images.shape[2:], device=images.device)
    if within is not None:
        relevant = _check_within(within, images).to(relevant)
    touched = torch.einsum("bhw,ih,jw->bij", relevant, rows.to(relevant), columns.to(relevant)) > 0
    windows = touched.flatten().nonzero()[:, 0]
    for span in batch_slices(len(windows), target_score.batch_size):
        number, row, column = unravel_index(windows[span], shape)
        hidden = (rows[row][:, :, None] * columns[column][:, None, :])[:, None] > 0
        scores = target_score(torch.where(hidden, other[number], images[number]), number)
        drops[number, row, column] = base[number] - scores
    return drops


def _check_within(within: Tensor, images: Tensor) -> Tensor:
    accepted = ((*images.shape[2:],), (len(images), *images.shape[2:]))
    mask = as_tensor(within, "within")
    if tuple(mask.shape) not in accepted:
        shapes = " or ".join(map(str, accepted))
        raise value_error("within", f"shape {tuple(mask.shape)}", shapes)
    return mask.expand(accepted[1])


@renamed_arguments(layer="target_layer")
def rise(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    target_layer: NamedLayer | None = None,
    num_masks: int = 2000,
    grid: Size = _GRID,
    keep: float = 0.5,
    fill: Fill = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> Tensor:
    """RISE: the mean score of randomly masked images in which a pixel is visible (B, H, W).

    RISE (Petsiuk et al. 1806.07421, equation 4): E[f(x ⊙ M) M(pixel)] / E[M(pixel)], in units of
    the score. It is estimated without bias as mean f + cov(f, M(pixel)) / keep, with N − 1 in the
    covariance: unlike the paper's equation 6, chance differences in how often a pixel was seen do
    not show as noise. For f(x) = w·x + b and cells of one pixel it is, but for a constant,
    (1 − keep) · w x of the pixel.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W); each is hidden by the same masks.
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        target_layer: dotted name of the layer whose unit is meant; None: the model's output.
        num_masks: N, at least 2; the noise falls as 1 / √N.
        grid: cells of a mask along the image, a number (of an image with fewer rows or columns as
            many as there are) or (rows, columns). Masks are drawn on one cell more, enlarged
            bilinearly and shifted by less than a cell.
        keep: probability that a cell is seen, between 0 and 1.
        fill: what hidden pixels show, as `replacement` takes it.
        seed: of the masks.
        batch_size: masked images that run at once, which bounds the memory; None:
            at most 256 (on a CPU 64, or 2¹⁶ numbers), of 2²² numbers together.

    Raises:
        ValueError: a setting out of range; or as `select_target`.
    """
    check_count(num_masks, "num_masks", 2)
    check_share(keep, "keep")
    with inspection_mode(model), torch.no_grad():
        images = as_images(images, model)
        sides = (images.shape[2], images.shape[3])
        masks = _Masks.random(num_masks, size_pair(grid, "grid", sides, _GRID), sides, keep, seed)
        target_score = resolve_target(model, images, target, target_layer, batch_size)
        base = target_score.on_images(images).cpu().double()
        other = replacement(images, fill, model)
        means, covariances = _moments(target_score, images, other, masks, base)
        return ((base + means)[:, None, None] + covariances / keep).to(images)


def _moments(
    target_score: TargetScore, images: Tensor, other: Tensor, masks: "_Masks", base: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean of the gain f = score - base (B,), and its covariance with masks (B, H, W).

    All sums are of numbers around 0, in double precision on the CPU, which each machine has: they
    lose no digits to a large score.
    """
    products = torch.zeros(images.shape[0:1] + images.shape[2:], dtype=torch.float64)
    of_gains, of_masks = torch.zeros_like(products[:, 0, 0]), torch.zeros_like(products[0])
    for span in batch_slices(masks.num, target_score.batch_size):
        part = masks.enlarge(span, images.dtype)
        around = part.double() - masks.keep
        of_masks += around.sum(dim=0)
        visible = part.to(images.device)[:, None]
        for number in range(len(images)):
            mixed = torch.lerp(other[number], images[number], visible)
            rows = torch.full((len(part),), number, device=images.device)
            gains = target_score(mixed, rows).cpu().double() - base[number]
            of_gains[number] += gains.sum()
            products[number] += torch.tensordot(gains, around, 1)
    means = of_gains / masks.num
    return means, (products - means[:, None, None] * of_masks) / (masks.num - 1)


@attrs.frozen(eq=False)
class _Masks:
    """Random masks, N of them, stored as cells.

    Attributes:
        cells: whether each is seen (N, rows + 1, columns + 1).
        shifts: pixels that are cut off at the top and at the left (N, 2).
        size: rows and columns of a cell in pixels.
        sides: H, W.
        keep: probability that a cell is seen.
    """

    cells: Tensor
    shifts: Tensor
    size: tuple[int, int]
    sides: tuple[int, int]
    keep: float

    @classmethod
    def random(
        cls, num: int, grid: tuple[int, int], sides: tuple[int, int], keep: float, seed: int
    ) -> "_Masks":
        """Draw masks of grids of cells that cover the sides."""
        source = torch.Generator().manual_seed(seed)
        cells = torch.rand(num, grid[0] + 1, grid[1] + 1, generator=source) < keep
        size = (-(-sides[0] // grid[0]), -(-sides[1] // grid[1]))
        shifts = [torch.randint(side, (num,), generator=source) for side in size]
        return cls(cells, torch.stack(shifts, dim=1), size, sides, keep)

    @property
    def num(self) -> int:
        """N."""
        return len(self.cells)

    def enlarge(self, span: slice, dtype: torch.dtype) -> Tensor:
        """Return some of the masks (num, H, W), from 0 to 1."""
        cells, shifts = self.cells[span].to(dtype), self.shifts[span]
        sizes = [cells.shape[1 + axis] * self.size[axis] for axis in (0, 1)]
        whole = F.interpolate(cells[:, None], sizes, mode="bilinear", align_corners=False)[:, 0]
        rows, columns = (shifts[:, axis, None] + torch.arange(self.sides[axis]) for axis in (0, 1))
        each = torch.arange(len(cells))[:, None, None]
        return whole[each, rows[:, :, None], columns[:, None, :]]
