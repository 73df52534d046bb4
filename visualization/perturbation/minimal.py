"""Minimal patch: the few pixels that keep most of a unit's activation.

B images, C channels, H rows, W columns; n squares of pixels, R sets of them.
"""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.masking import Fill, replacement
from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_count, check_share
from visualization.core.inputs import Images, inspection_mode, one_image
from visualization.core.records import brief_repr
from visualization.core.targets import batch_slices, resolve_batch_size
from visualization.core.tracing import NamedLayer
from visualization.perturbation.units import Unit, UnitRecord, crop_to_field, find_unit

_MAX_REMOVED_PER_ROUND = 0.1  # share of the squares that are removed at once, at most,
_CHEAP, _HALF = 0.25, 0.5  # or this share, if that takes so much of what may still be lost
_PREFIXES = 32  # numbers of squares that are tried to be removed at once
_MAX_NUMBERS_TRIED = 2**26  # in all images that are tried, about, by the side of squares
_ROUNDS = 6  # as many times each square is tried, about


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class MinimalPatch(UnitRecord):
    """Minimal patch: a small set of pixels that keeps most of a unit's activation.

    Attributes:
        field: pixels that the unit depends on (H, W).
        mask: pixels that are kept (H, W).
        shown: the image with all others replaced (C, H, W).
        kept: of the unit on `shown`.
        keep: share of the activation that had to be kept.
        sizes: numbers of pixels kept, falling, from the whole field to none (n + 1,).
        curve: activation at each (n + 1,): pixels that are missed least go first.
        block: side of the squares that are kept or replaced as one, in pixels.
    """

    field: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    shown: NDArray[np.floating]
    kept: float
    keep: float
    sizes: NDArray[np.int64]
    curve: NDArray[np.floating]
    block: int


def minimal_patch(
    model: nn.Module,
    layer: NamedLayer | None,
    unit: Sequence[int],
    image: Images,
    keep: float = 0.9,
    *,
    fill: Fill = 0.0,
    block: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> MinimalPatch:
    """Minimal patch: few pixels that keep most of a unit's activation, all others replaced.

    Backward elimination from the whole receptive field: in each round the squares that matter least
    are removed, a tenth at most, or up to half if together they hardly matter. Each square that is
    left is needed: without it less than `keep` remains. A smaller set may exist.

    For n squares some 3 to 8 n images run. By default squares are as small as lets these have some
    2²⁶ numbers: of a field (3, 67, 67) they are 3 × 3, of (3, 224, 224) 28 × 28.

    Args:
        model: any module; it is left as it was.
        layer: dotted name, `relu@1` its second call; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
        image: (C, H, W) or (1, C, H, W).
        keep: share of the activation that remains, above 0, at most 1.
        fill: what the others show: a number, `mean`, `blur`, or an image.
        block: side of the squares in pixels; None: as small as the budget above lets it be.
        batch_size: images that run at once; None: at most 256 (on a CPU 64, or 2¹⁶ numbers), of 2²²
            numbers together.
        progress: is called with the number of squares left, in words, such as `print`.

    Raises:
        ValueError: no such layer or unit; an activation not above 0; or a setting out of range.
    """
    check_share(keep, "keep", whole=True)
    check_count(block, "block")
    with inspection_mode(model), torch.no_grad():
        batch = one_image(image, model)
        selected, base = _active_unit(model, layer, unit, batch)
        field = selected.field(batch)
        field_mask = torch.as_tensor(field.pixels, device=batch.device)
        other, cropped = replacement(batch, fill, model), crop_to_field(selected, batch, field)
        block = block or _smallest_block(field_mask, cropped.crop(batch).numel())
        numbers, num = _number_squares(field_mask, block)
        squares = _Squares(
            unit=cropped.unit, image=cropped.crop(batch), other=cropped.crop(other),
            numbers=cropped.crop(numbers), num=num,
            batch_size=resolve_batch_size(batch_size, cropped.crop(batch)),
        )  # fmt: skip
        order, num_kept = _remove_squares(squares, base, keep * base, progress)
        sizes, curve = _curve(squares, order, numbers, base)
    mask = torch.isin(numbers, order[num - num_kept :])
    return MinimalPatch(
        field=field.pixels, mask=to_numpy(mask),
        shown=to_numpy(torch.where(mask, batch[0], other[0])),
        kept=float(curve[num - num_kept]), keep=keep, sizes=to_numpy(sizes), curve=to_numpy(curve),
        block=block, **selected.record_fields(batch, base),
    )  # fmt: skip


def _active_unit(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], image: Tensor
) -> tuple[Unit, float]:
    """Return a unit, and its activation, which must be above 0."""
    selected, base = find_unit(model, layer, unit, image)
    if base <= 0:
        problem = f"{selected.index} outputs {base:g} for this image"
        raise argument_error("unit", problem, "units whose activation is above 0")
    return selected, base


def _number_squares(field: Tensor, block: int) -> tuple[Tensor, int]:
    """Block index of each pixel (H, W), and the number of blocks n; pixels of none have n.

    Squares are cut from the image's upper left corner, of its field; pixels of none have n.
    """
    rows, columns = (torch.arange(side, device=field.device) // block for side in field.shape)
    labels = rows[:, None] * len(columns) + columns
    labels_found, numbers = torch.unique(labels[field], return_inverse=True)
    numbered = torch.full_like(labels, len(labels_found))
    numbered[field] = numbers
    return numbered, len(labels_found)


def _smallest_block(field: Tensor, size: int) -> int:
    """Return the least side of squares of a field (H, W) that are tried within the budget.

    Args:
        field: pixels that the unit depends on (H, W).
        size: numbers of an image that is tried.
    """
    block = 1
    while (
        block < max(field.shape)
        and _ROUNDS * size * _number_squares(field, block)[1] > _MAX_NUMBERS_TRIED
    ):
        block += 1
    return block


@attrs.frozen(kw_only=True, eq=False)
class _Squares:
    """Blocks of pixels, n of them, of which some are kept while all else is replaced.

    Attributes:
        unit: the unit.
        image: (1, C, H, W).
        other: what replaces pixels (1, C, H, W).
        numbers: of each pixel the number of its square; n: in none (H, W).
        num: n.
        batch_size: images that run at once.
    """

    unit: Unit
    image: Tensor
    other: Tensor
    numbers: Tensor
    num: int
    batch_size: int

    def images(self, squares: Tensor) -> Tensor:
        """Return the images (R, C, H, W) of which only sets of squares (R, n) are left."""
        pixels = F.pad(squares, (0, 1))[:, self.numbers]
        return torch.where(pixels[:, None], self.image, self.other)

    def without_each(self, squares: Tensor, candidates: Tensor) -> Tensor:
        """Return the activations (K,) of squares (n,) when one of some (K,) is removed."""
        return self._scores(
            len(candidates), lambda span: squares & ~F.one_hot(candidates[span], self.num).bool()
        )

    def without_first(self, squares: Tensor, order: Tensor, counts: Tensor) -> Tensor:
        """Return the activations (K,) of squares when the first (K,) in order are removed."""
        rank = torch.full((self.num,), self.num, device=squares.device)
        rank[order] = torch.arange(len(order), device=squares.device)
        return self._scores(len(counts), lambda span: squares & (rank >= counts[span, None]))

    def _scores(self, num: int, sets: Callable[[slice], Tensor]) -> Tensor:
        parts = [self.unit(self.images(sets(span))) for span in batch_slices(num, self.batch_size)]
        return torch.cat(parts) if parts else self.image.new_empty(0)


def _remove_squares(
    squares: _Squares, base: float, least: float, progress: Callable[[str], None] | None
) -> tuple[Tensor, int]:
    """Return the squares in the order in which they were removed, and how many of them are kept.

    Those that are kept are at the end: each alone takes the activation below `least`.

    Args:
        squares: of which none is removed.
        base: the activation then.
        least: that is to be kept.
        progress: is called with how many are left.
    """
    is_kept = torch.ones(squares.num, dtype=torch.bool, device=squares.image.device)
    remaining, removed = is_kept.nonzero()[:, 0], []
    while len(remaining):
        if progress:
            progress(f"{len(remaining)} of {squares.num} squares left")
        without = squares.without_each(is_kept, remaining)
        remaining = remaining[without.argsort(descending=True, stable=True)]
        few = max(1, int(_MAX_REMOVED_PER_ROUND * len(remaining)))
        half = max(1, int(_HALF * len(remaining)))
        counts = torch.linspace(1, half, _PREFIXES, device=is_kept.device).round().long()
        counts = torch.unique(torch.cat([counts, counts.new_tensor([few])]))
        values = squares.without_first(is_kept, remaining, counts)
        cheap = values >= base - _CHEAP * (base - least)
        good = (values >= least) & (cheap | (counts <= few))
        num = int(counts[good].max()) if good.any() else int(without.max() >= least)
        if not num:
            break
        base = float(values[counts == num]) if good.any() else float(without.max())
        removed.append(remaining[:num])
        is_kept[remaining[:num]] = False
        remaining = remaining[num:]
    return torch.cat([*removed, remaining]), len(remaining)


def _curve(squares: _Squares, order: Tensor, numbers: Tensor, base: float) -> tuple[Tensor, Tensor]:
    """Return how many pixels are left after each removal (n + 1,), and the activation then."""
    every = torch.ones_like(order, dtype=torch.bool)
    counts = torch.arange(1, len(order) + 1, device=order.device)
    curve = [squares.image.new_tensor([base]), squares.without_first(every, order, counts)]
    pixels = numbers.flatten().bincount(minlength=squares.num + 1)[order]
    return F.pad(pixels.flip(0).cumsum(0), (1, 0)).flip(0), torch.cat(curve)
