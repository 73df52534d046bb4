"""Match query: where else the same units are on (LSTMVis, Strobelt et al. 1606.07461).

Letters: N samples, T time steps, U units, W windows of the selected length in a sample.
"""

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_shape
from visualization.core.errors import check_count, value_error
from visualization.core.records import brief_repr


@attrs.frozen(kw_only=True)
class Match:
    """Match: a window like the selected one.

    Attributes:
        sample: index of its sample.
        start: its first time step.
        stop: the time step after its last one.
        shared: the units that are on over it and over the selection, ascending.
        num_on: how many units are on over it.
        run: how many consecutive steps, the window among them, all shared units stay on.
    """

    sample: int
    start: int
    stop: int
    shared: tuple[int, ...]
    num_on: int
    run: int


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Matches:
    """A selected span of one sample, the units that are on over it, and its matches, best first.

    Attributes:
        sample: the selected sample.
        start: its first selected step.
        stop: the step after the last selected one.
        threshold: least value of a unit that is on.
        units: the units that are on over the selection, ascending.
        matches: the matches.
        num_all: how many windows, `found` or not, share all the selected units.
        texts: what the selected sample and each match reads, in this order; may be empty.
    """

    sample: int
    start: int
    stop: int
    threshold: float
    units: tuple[int, ...]
    matches: tuple[Match, ...]
    num_all: int = 0
    texts: tuple[str, ...] = ()


def find_matches(
    values: ArrayLike | Tensor,
    sample: int,
    start: int,
    stop: int,
    threshold: float = 0.3,
    num: int = 20,
    symbols: ArrayLike | None = None,
) -> Matches:
    """Match query: windows in which most of the units are on that are on in the selection.

    A unit is on over a span when its value is at least `threshold` at every step of it. Candidates
    are the windows as long as the selection, in every sample, that do not overlap the selection
    itself. The best has the largest set of shared units, then the smallest union of both sets, then
    the longest run, then the lowest sample, then the earliest start. A sample gives at most its
    best window, and none where no unit is shared.

    Args:
        values: (N, T, U), any range.
        sample: the selected sample, 0 to N - 1.
        start: the first selected step.
        stop: the step after the last selected one, start + 1 to T.
        threshold: least value of a unit that is on; LSTMVis takes 0.3 on tanh(c).
        num: at most so many matches are returned.
        symbols: the characters that are read (N, T), to show with the matches.

    Raises:
        ValueError: if `values` has not three axes, or an index or `num` is out of range.

    >>> on = [[[1, 0], [0, 0]], [[0, 1], [1, 1]]]  # 2 samples, 2 steps, 2 units
    >>> [(match.sample, match.start) for match in find_matches(on, 0, 0, 1).matches]
    [(1, 1)]
    """
    array = as_array(values, "values", ("sample", "time", "unit"), finite=True)
    _check(array, sample, start, stop, num)
    selected, matches, num_all = _rank_windows(array >= threshold, sample, start, stop, num)
    texts: tuple[str, ...] = ()
    if symbols is not None:
        read = as_array(symbols, "symbols", ("sample", "time"))
        check_shape("symbols", read.shape, array.shape[:2], "values")
        texts = tuple(
            "".join(map(str, read[s])) for s in (sample, *(match.sample for match in matches))
        )
    return Matches(
        sample=sample, start=start, stop=stop, threshold=threshold, units=_units(selected),
        matches=tuple(matches), num_all=num_all, texts=texts,
    )  # fmt: skip


def _rank_windows(
    on: NDArray[np.bool_], sample: int, start: int, stop: int, num: int
) -> tuple[NDArray[np.bool_], list[Match], int]:
    """Return which units are on over the selection, the best matches, and how many share all."""
    length = stop - start
    num_windows = on.shape[1] - length + 1
    windows = np.logical_and.reduce([on[:, t : t + num_windows] for t in range(length)])
    selected = windows[sample, start]
    shared = windows & selected
    num_shared = shared.sum(-1)  # (N, W)
    num_on = windows.sum(-1)
    run = length + _extension(on, shared, length)
    eligible = num_shared > 0
    eligible[sample, max(0, start - length + 1) : stop] = False
    samples, starts = eligible.nonzero()
    union = num_on[eligible] + selected.sum() - num_shared[eligible]
    ranked = np.lexsort((starts, samples, -run[eligible], union, -num_shared[eligible]))
    best = np.sort(np.unique(samples[ranked], return_index=True)[1])[:num]
    windows_found = zip(samples[ranked[best]].tolist(), starts[ranked[best]].tolist(), strict=True)
    num_all = int((num_shared[eligible] == selected.sum()).sum())
    best_matches = [
        Match(
            sample=s,
            start=w,
            stop=w + length,
            shared=_units(shared[s, w]),
            num_on=int(num_on[s, w]),
            run=int(run[s, w]),
        )
        for s, w in windows_found
    ]
    return selected, best_matches, num_all


def _check(array: NDArray[np.generic], sample: int, start: int, stop: int, num: int) -> None:
    """Refuse arguments that select nothing."""
    num_samples, num_steps = array.shape[:2]
    if not 0 <= sample < num_samples:
        raise value_error("sample", sample, f"0 to {num_samples - 1}")
    if not 0 <= start < num_steps:
        raise value_error("start", start, f"0 to {num_steps - 1}")
    if not start < stop <= num_steps:
        raise value_error("stop", stop, f"{start + 1} to {num_steps}")
    check_count(num, "num")


def _extension(on: NDArray[np.bool_], shared: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Return by how many steps each window (N, W) can grow with its shared units still on."""
    num_windows = shared.shape[1]
    growth = np.zeros(shared.shape[:2], np.int64)
    # A side grows one step at a time, as long as no shared unit is off there.
    for first, step in ((-1, -1), (length, 1)):
        growing = np.ones(shared.shape[:2], bool)
        for distance in range(on.shape[1] - length):
            offset = first + step * distance
            inside = slice(max(0, -offset), min(num_windows, on.shape[1] - offset))
            neighbours = on[:, inside.start + offset : inside.stop + offset]
            holds = np.zeros_like(growing)
            holds[:, inside] = ~(shared[:, inside] & ~neighbours).any(-1)
            growing &= holds
            growth += growing
            if not growing.any():
                break
    return growth


def _units(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the numbers of the marked units."""
    return tuple(mask.nonzero()[0].tolist())
