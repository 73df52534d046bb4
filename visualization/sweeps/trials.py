"""Trials of a sweep: parallel coordinates, slices of single settings, the best score so far."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr

_LOG_FROM = 10.0  # largest over smallest number from which an axis is logarithmic


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class SettingAxis:
    """Values of one setting in N trials: numbers, or places of `labels` on an axis."""

    name: str
    positions: NDArray[np.float64]  # (N,); NaN: the trial does not have the setting
    labels: Sequence[str] = ()  # of the places 0, 1, …; empty for numbers
    is_log: bool = False


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class TrialScores:
    """Scores (N,) of trials in their order, with 95 % intervals over seeds, NaN without."""

    score_name: str
    is_higher_better: bool
    scores: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    statuses: Sequence[str]  # done, or how a trial ended before that

    @classmethod
    def of(
        cls, *, scores: Sequence[float], low: Sequence[float], high: Sequence[float], **others: Any
    ) -> "TrialScores":
        """Return the scores of trials.

        Raises:
            NothingToShow: there is no trial.
        """
        if not scores:
            raise NothingToShow("no trial has a score yet")
        arrays = [np.asarray(numbers, np.float64) for numbers in (scores, low, high)]
        return cls(scores=arrays[0], low=arrays[1], high=arrays[2], **others)

    @property
    def is_done(self) -> NDArray[np.bool_]:
        """Whether each trial (N,) is done."""
        return np.array([status == "done" for status in self.statuses])

    @property
    def best_so_far(self) -> NDArray[np.float64]:
        """The best score (N,) of the done trials until each; NaN before the first."""
        sign = 1.0 if self.is_higher_better else -1.0
        ranked = np.where(self.is_done, sign * self.scores, -np.inf)
        best = np.maximum.accumulate(ranked)
        return np.where(np.isfinite(best), sign * best, np.nan)

    @property
    def best(self) -> int:
        """Index of the best done trial, or of the best of all if none is done."""
        sign = 1.0 if self.is_higher_better else -1.0
        ranked = np.where(self.is_done, sign * self.scores, -np.inf)
        return int(np.argmax(ranked if self.is_done.any() else sign * self.scores))


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ParallelCoordinates:
    """Settings and scores of trials, each a line over the axes of its settings."""

    axes: Sequence[SettingAxis]
    trials: TrialScores

    @classmethod
    def of(cls, values: Mapping[str, Sequence[Any]], **trials: Any) -> "ParallelCoordinates":
        """Return the record of settings: name → value in each trial; None where it has none."""
        return cls(axes=setting_axes(values), trials=TrialScores.of(**trials))


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Slices:
    """Scores of trials against each setting, in a panel of its own."""

    axes: Sequence[SettingAxis]
    trials: TrialScores

    @classmethod
    def of(cls, values: Mapping[str, Sequence[Any]], **trials: Any) -> "Slices":
        """Return the record of settings: name → value in each trial; None where it has none."""
        return cls(axes=setting_axes(values), trials=TrialScores.of(**trials))


def setting_axes(values: Mapping[str, Sequence[Any]]) -> list[SettingAxis]:
    """Return an axis for each setting: name → value in each trial; None where it has none.

    Raises:
        NothingToShow: no trial has a setting.
    """
    axes = [
        _axis(name, list(of_setting))
        for name, of_setting in values.items()
        if any(value is not None for value in of_setting)
    ]
    if not axes:
        raise NothingToShow("no trial has a setting")
    return axes


def _axis(name: str, values: list[Any]) -> SettingAxis:
    given = [value for value in values if value is not None]
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in given):
        numbers = np.array([math.nan if v is None else float(v) for v in values])
        lowest, highest = np.nanmin(numbers), np.nanmax(numbers)
        is_log = bool(lowest > 0 and highest >= _LOG_FROM * lowest)
        return SettingAxis(name=name, positions=numbers, is_log=is_log)
    labels = list(dict.fromkeys(map(str, given)))
    places = np.array([math.nan if v is None else labels.index(str(v)) for v in values])
    return SettingAxis(name=name, positions=places, labels=labels)
