"""Unit roles: how much of a unit's variance position and character explain."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_shape, unit_deviations
from visualization.core.records import brief_repr

KINDS = ("counter", "detector", "mixed", "constant")


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class UnitRoles:
    """Unit roles: U units over T positions and V symbols.

    Attributes:
        shares: of each unit's variance (U, 3): what position, what the current symbol, and what
            neither explains; in [0, 1], sums 1; 0 throughout for a unit that never changes.
        kinds: of each unit: `counter` (position explains at least `least`), `detector` (the
            symbol does), `mixed`, or `constant` (hardly varies).
        deviations: standard deviation of each unit (U,).
        by_position: mean activity at each position (T, U).
        by_symbol: mean activity at each symbol (V, U).
        symbols: the V symbols in order.
        order: the units that are not constant, in the order of a clustering by `by_position` and
            `by_symbol` (average linkage of correlation distance).
    """

    shares: NDArray[np.float64]
    kinds: tuple[str, ...]
    deviations: NDArray[np.float64]
    by_position: NDArray[np.float64]
    by_symbol: NDArray[np.float64]
    symbols: tuple[str, ...]
    order: NDArray[np.int64]

    def count(self, kind: str) -> int:
        """Return how many units are of a kind."""
        return self.kinds.count(kind)


def classify_units(
    values: ArrayLike | Tensor,
    symbols: ArrayLike,
    *,
    least: float = 0.5,
    threshold: float = 0.05,
) -> UnitRoles:
    """Unit roles: whether each unit counts positions, detects characters, or neither.

    The variance that an additive model of position and symbol explains is split between the two by
    the average of both orders of entry (Lindeman, Merenda & Gold 1980; a Shapley value), since the
    two are seldom independent: padding is at the end.

    Args:
        values: activity (sample, time, unit), such as `trace.c[0]`.
        symbols: what is read, or written, at each step (sample, time).
        least: share of variance that makes a counter or a detector.
        threshold: units of a standard deviation below this share of the largest are `constant`.

    Raises:
        ValueError: names the argument that does not fit.
    """
    array = as_array(values, "values", ("sample", "time", "unit"), finite=True).astype(np.float64)
    read = as_array(symbols, "symbols", ("sample", "time"))
    check_shape("symbols", read.shape, array.shape[:2], "values")
    names, codes = np.unique(read, return_inverse=True)
    flat = array.reshape(-1, array.shape[-1])
    flat = flat - flat.mean(axis=0)
    positions = np.tile(np.arange(array.shape[1]), len(array))
    of_position = _means(flat, positions, array.shape[1])
    of_symbol = _means(flat, codes.ravel(), len(names))
    total = (flat**2).sum(axis=0)
    deviations = unit_deviations(array)
    is_constant = np.ptp(array, axis=(0, 1)) == 0  # its deviation may be a rounding error
    varies = ~is_constant & (deviations > threshold * deviations.max())
    shares = np.zeros((flat.shape[1], 3))
    if varies.any():
        shares = _shares(flat, total, positions, codes.ravel(), of_position, of_symbol)
    shares[is_constant] = 0.0
    kinds = tuple(
        "constant" if not moves
        else "counter" if share[0] >= least
        else "detector" if share[1] >= least
        else "mixed"
        for moves, share in zip(varies, shares, strict=True)
    )  # fmt: skip
    mean = array.mean(axis=(0, 1))
    return UnitRoles(
        shares=shares, kinds=kinds, deviations=deviations, by_position=of_position + mean,
        by_symbol=of_symbol + mean, symbols=tuple(map(str, names)),
        order=_cluster_order(np.concatenate([of_position, of_symbol]), varies),
    )  # fmt: skip


def _means(flat: NDArray[Any], groups: NDArray[Any], num: int) -> NDArray[Any]:
    """Return the mean of rows (N, U) in each group (num, U)."""
    sums = np.zeros((num, flat.shape[1]))
    np.add.at(sums, groups, flat)
    means: NDArray[Any] = sums / np.bincount(groups, minlength=num)[:, None].clip(1)
    return means


def _shares(
    flat: NDArray[Any], total: NDArray[Any], positions: NDArray[Any], symbols: NDArray[Any],
    of_position: NDArray[Any], of_symbol: NDArray[Any],
) -> NDArray[Any]:  # fmt: skip
    """Return the share of each unit's variance by position, by symbol, and the rest (U, 3)."""
    num_positions, num_symbols = len(of_position), len(of_symbol)
    crossed = np.zeros((num_positions, num_symbols))
    np.add.at(crossed, (positions, symbols), 1.0)
    counts = [crossed.sum(1), crossed.sum(0)]
    alone = [
        (n[:, None] * m**2).sum(0) for n, m in zip(counts, (of_position, of_symbol), strict=True)
    ]
    gram = np.block([[np.diag(counts[0]), crossed], [crossed.T, np.diag(counts[1])]])
    sums = np.concatenate([of_position * counts[0][:, None], of_symbol * counts[1][:, None]])
    both = (sums * (np.linalg.pinv(gram, hermitian=True) @ sums)).sum(0)
    divisor = np.where(total > 0, total, 1.0)
    position = (alone[0] + both - alone[1]) / (2 * divisor)
    symbol = (alone[1] + both - alone[0]) / (2 * divisor)
    shares: NDArray[Any] = np.stack([position, symbol, 1 - both / divisor], axis=1)
    return shares.clip(0.0, 1.0)


def _cluster_order(profiles: NDArray[Any], varies: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the varying units in an order that puts like profiles (…, U) side by side."""
    units = np.flatnonzero(varies)
    if len(units) < 3:
        return units
    from scipy.cluster.hierarchy import leaves_list, linkage  # half a second, seldom needed

    unit_profiles = profiles[:, units].T
    spread = unit_profiles.std(axis=1)
    flat = spread <= 1e-9 * spread.max()  # of these no correlation is defined
    if np.count_nonzero(~flat) < 2:
        return np.concatenate([units[~flat], units[flat]])
    tree = linkage(unit_profiles[~flat], "average", metric="correlation", optimal_ordering=True)
    return np.concatenate([units[~flat][leaves_list(tree)], units[flat]])
