"""Reliability diagram, expected calibration error, temperature scaling (Guo et al. 2017).

1706.04599. Temperature scaling divides all logits by one number, which is fitted where nothing was
learned; answers stay the same, and only how sure they are changes.
"""

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visualization.core.arrays import check_shape
from visualization.core.errors import NothingToShow, value_error
from visualization.core.records import brief_repr

NUM_BINS = 10
_Z = 1.96  # standard errors of a 95 % interval
_NUM_DRAWN = 500  # of chance levels
_LOWEST, _HIGHEST = 0.1, 10.0  # temperatures
_LEAST = 1e-6  # a confidence is taken to be as much from 0 and 1
Array = NDArray[np.float64]


@attrs.frozen(eq=False, kw_only=True)
class Confidences:
    """Confidences in what an agent says, at any temperature.

    Attributes:
        name: of what is said, such as `characters`.
        at: returns for a temperature how sure each of M things is, from 0 to 1 (M,), and whether it
            is right (M,).
    """

    name: str
    at: Callable[[float], tuple[Array, NDArray[np.bool_]]]


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class Reliability:
    """Confidences and shares right in K bins of equal width.

    Attributes:
        edges: of the bins (K + 1,).
        counts: how many are in each (K,).
        confidence: mean confidence in each (K,); NaN: empty.
        accuracy: share right in each (K,); NaN: empty.
        low: lower end of the 95 % interval of that share, by Wilson (K,).
        high: upper end.
        ece: expected calibration error: the mean of |share right - confidence| over the bins,
            weighted by their counts.
        chance: the error that only 5 % of samples of this size exceed if each of these confidences
            is the true probability. Characters of one line are not independent, so that it is
            rather higher.
    """

    edges: Array
    counts: NDArray[np.int64]
    confidence: Array
    accuracy: Array
    low: Array
    high: Array
    ece: float
    chance: float

    @property
    def mean_confidence(self) -> float:
        """The mean of all confidences."""
        return float(np.nansum(self.counts * self.confidence) / self.counts.sum())

    @property
    def mean_accuracy(self) -> float:
        """The share right of all."""
        return float(np.nansum(self.counts * self.accuracy) / self.counts.sum())


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class ReliabilityDiagram:
    """Reliability before and after temperature scaling, on samples on which it was not fitted.

    Attributes:
        name: of what is said, such as `characters`.
        before: at the temperature that the agent had.
        after: at the fitted one.
        temperatures: before and after.
        fitted_on: on what, and on how many.
    """

    name: str
    before: Reliability
    after: Reliability
    temperatures: tuple[float, float]
    fitted_on: str


def reliability(
    confidence: ArrayLike, right: ArrayLike, *, num_bins: int = NUM_BINS, seed: int = 0
) -> Reliability:
    """Return the reliability of confidences, and the expected calibration error.

    Args:
        confidence: how sure each of M things was, from 0 to 1 (M,).
        right: whether it was right (M,).
        num_bins: K.
        seed: of the draws of the chance level.

    Raises:
        NothingToShow: M is 0.
        ValueError: names the argument that is not accepted.
    """
    sure, is_right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    check_shape("right", is_right.shape, sure.shape, "confidence")
    if not len(sure):
        raise NothingToShow("nothing was said, so that there is no confidence in it")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise value_error("confidence", f"{sure.min():g} to {sure.max():g}", "0 to 1")
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.digitize(sure, edges) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    total, num_right = (
        np.bincount(bins, weights, minlength=num_bins) for weights in (sure, is_right)
    )
    with np.errstate(invalid="ignore"):
        mean, accuracy = total / counts, num_right / counts
    low, high = wilson_interval(num_right, counts)
    drawn = np.random.default_rng(seed).random((_NUM_DRAWN, len(sure))) < sure
    chances = [_error(bins, sure - draw, num_bins) for draw in drawn]
    return Reliability(
        edges=edges, counts=counts, confidence=mean, accuracy=accuracy, low=low, high=high,
        ece=_error(bins, sure - is_right, num_bins), chance=float(np.quantile(chances, 0.95)),
    )  # fmt: skip


def _error(bins: NDArray[np.int64], gaps: Array, num_bins: int) -> float:
    """Return Σ |sum of the gaps in a bin| / M."""
    return float(np.abs(np.bincount(bins, gaps, minlength=num_bins)).sum() / len(bins))


def wilson_interval(num_right: ArrayLike, counts: ArrayLike) -> tuple[Array, Array]:
    """Return the 95 % interval of shares by Wilson's score; NaN where nothing was counted.

    >>> low, high = wilson_interval([8], [10])
    >>> low.round(3), high.round(3)
    (array([0.49]), array([0.943]))
    """
    n = np.asarray(counts, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.asarray(num_right, np.float64) / n
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def fit_temperature(said: Confidences) -> float:
    """Temperature scaling: return the temperature of the least log loss of right and wrong.

    From 0.1 to 10. Right ones count as one more right than there are, and wrong ones likewise
    (Platt 1999), so that a sample without a mistake does not make all sure.

    Raises:
        NothingToShow: nothing is said.
    """
    from scipy.optimize import minimize_scalar  # half a second, seldom needed

    def log_loss(log_temperature: float) -> float:
        sure, right = said.at(float(np.exp(log_temperature)))
        sure = np.clip(sure, _LEAST, 1 - _LEAST)
        num_right, num = right.sum(), len(right)
        target = np.where(right, (num_right + 1) / (num_right + 2), 1 / (num - num_right + 2))
        return float(-(target * np.log(sure) + (1 - target) * np.log1p(-sure)).mean())

    if not len(said.at(1.0)[0]):
        raise NothingToShow("nothing was said, so that there is no confidence in it")
    bounds = (np.log(_LOWEST), np.log(_HIGHEST))
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def reliability_diagrams(
    fitted: Sequence[Confidences],
    shown: Sequence[Confidences],
    temperature: float = 1.0,
    where: str = "validation",
) -> Mapping[str, ReliabilityDiagram]:
    """Return a diagram for each kind of what is said, before and after temperature scaling.

    Args:
        fitted: of samples on which the temperature is fitted; by the first kind, for all.
        shown: the same kinds, of other samples.
        temperature: that the agent has.
        where: the words for the samples of `fitted`.
    """
    best = fit_temperature(fitted[0])
    fitted_on = f"{len(fitted[0].at(1.0)[0]):,} {fitted[0].name} of {where}"
    return {
        said.name: ReliabilityDiagram(
            name=said.name, before=reliability(*said.at(temperature)),
            after=reliability(*said.at(best)), temperatures=(temperature, best),
            fitted_on=fitted_on,
        )
        for said in shown
    }  # fmt: skip
