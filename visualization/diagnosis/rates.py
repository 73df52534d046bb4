"""Learning-rate range test (Smith 2015, 1506.01186, section 3.3)."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from visualization.core.errors import argument_error
from visualization.diagnosis.evidence import Array, RateTest

DIVERGED = 4.0  # times the first level of the loss: the test ends there
_FIRST = 10  # losses that make the first level
_RECENT = 5  # losses whose median is compared with it, so that the noise of a batch ends nothing
_LEAST_FALL = 0.05  # of the first loss: a smaller fall is none
_LOW_MARGIN = 0.05  # of the fall: as far above the lowest loss is as low
_FALL_BEGUN = 0.1  # of the fall: as far below the first level the fall has begun
_NEIGHBOURS = 25  # the loss is averaged over steps / this on either side


def has_diverged(losses: Sequence[float]) -> bool:
    """Tell whether the last losses are four times the first ones, or the last is not a number."""
    if not math.isfinite(losses[-1]):
        return True
    first = losses[:_FIRST]
    return len(losses) > _FIRST and bool(
        np.median(losses[-_RECENT:]) > DIVERGED * sum(first) / len(first)
    )


def rate_test(rates: Sequence[float], losses: Sequence[float]) -> RateTest:
    """Learning-rate range test: the record of one that was made, rates and losses of equal length.

    The suggestion is the rate of the steepest fall of the smoothed loss over the logarithm of the
    rate, before its lowest point. The best rate is not it: there the loss is about to rise.

    Raises:
        ValueError: there is no loss, or the rates do not rise.
    """
    if not losses or len(rates) != len(losses) or list(rates) != sorted(set(rates)):
        problem = f"{len(losses)} at {len(rates)} rates"
        raise argument_error("losses", problem, "one or more, at rates that rise")
    ended = has_diverged(losses)
    finite = np.array(list(itertools.takewhile(math.isfinite, losses)))
    smoothed = smooth(finite, max(1, len(finite) // _NEIGHBOURS))
    lowest = _lowest(smoothed) if len(finite) else 0
    suggestion = _steepest(np.array(rates[: len(finite)]), smoothed, lowest) if lowest else None
    return RateTest(
        rates=tuple(map(float, rates)),
        losses=tuple(map(float, losses)),
        smoothed=tuple(map(float, smoothed)),
        suggestion=suggestion,
        best=float(rates[lowest]),
        diverged_at=float(rates[-1]) if ended else None,
    )


def _level(smoothed: Array) -> float:
    """Return the loss at which the test begins."""
    return float(np.median(smoothed[: max(1, len(smoothed) // 10)]))


def _num_calm(smoothed: Array) -> int:
    """Return how many of the losses come before it ran away: up by more than it ever fell.

    Beyond, steps are so large that a low loss is luck.
    """
    level = _level(smoothed)
    fallen = level - np.minimum.accumulate(smoothed)
    away = np.flatnonzero((fallen > _LEAST_FALL * abs(level)) & (smoothed > level + fallen))
    return int(away[0]) if len(away) else len(smoothed)


def _lowest(smoothed: Array) -> int:
    """Return where the fall ends: the first place about as low as any.

    The last ones are averaged over too few neighbours to count.
    """
    reliable = smoothed[: min(_num_calm(smoothed), len(smoothed) - len(smoothed) // _NEIGHBOURS)]
    low = float(reliable.min())
    return int((reliable <= low + _LOW_MARGIN * max(0.0, _level(smoothed) - low)).argmax())


def _steepest(rates: Array, smoothed: Array, lowest: int) -> float | None:
    """Return the rate of the steepest fall towards the lowest place; None: there is no fall.

    The fall begins where the loss leaves its first level for good: before, it only scatters.
    """
    level = _level(smoothed)
    fall = level - smoothed[lowest]
    if fall <= _LEAST_FALL * abs(level):
        return None
    before = np.flatnonzero(smoothed[:lowest] >= level - _FALL_BEGUN * fall)
    if not len(before):
        return None
    begin = int(before[-1])
    slopes = np.gradient(smoothed, np.log(rates))
    return float(rates[begin + int(slopes[begin : lowest + 1].argmin())])


def smooth(values: Array, reach: int) -> Array:
    """Return the mean of each value with `reach` neighbours on either side, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    ends = np.minimum(positions, len(values) - 1 - positions)
    reach_here = np.minimum(reach, ends)  # no shift at the ends
    low, high = positions - reach_here, positions + reach_here + 1
    return np.asarray((total[high] - total[low]) / (high - low))
