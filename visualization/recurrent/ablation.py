"""Unit ablation: scores with units of a recurrent layer switched off."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.arrays import as_array, check_shape
from visualization.core.errors import argument_error, check_share, value_error
from visualization.core.records import brief_repr
from visualization.recurrent.cells import intervene_on
from visualization.recurrent.edits import Edit, check_edits

Score = Callable[[], Mapping[str, ArrayLike | Tensor]]
Replacement = Literal["zero", "mean"] | float


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class UnitRanking:
    """Unit ablation: what switching off each of G groups of units does over N samples.

    Attributes:
        groups: the units of each group.
        replacement: what the units were set to: `zero`, `mean` or a number.
        baseline: each mean score of the untouched network.
        change: by score, the mean of the paired difference, ablated − untouched (G,): negative
            where accuracy falls, positive where a loss rises.
        share_changed: share of the samples whose first score changes at all, in [0, 1] (G,): two
            changes that cancel each other show here.
        low: lower end of its bootstrap interval (G,).
        high: upper end (G,).
        order: groups, the most important first: by the size of the change of the first score, then
            of the next, then by number.
        num_samples: N.
        confidence: of the intervals.
    """

    groups: tuple[tuple[int, ...], ...]
    replacement: Replacement
    baseline: Mapping[str, float]
    change: Mapping[str, NDArray[np.float64]]
    share_changed: NDArray[np.float64]
    low: Mapping[str, NDArray[np.float64]]
    high: Mapping[str, NDArray[np.float64]]
    order: NDArray[np.int64]
    num_samples: int
    confidence: float

    def interaction(self, score: str) -> NDArray[np.float64]:
        """Return, for each pair, its change minus the two changes of its units alone (G,).

        Negative, for an accuracy: the two replace each other, and either hides the loss of
        the other; positive: they need each other, and losing both is less than the sum, or one
        alone has already taken the score to its floor. NaN for groups that are not pairs, or whose
        units were not ranked alone too.
        """
        changes = self.change[score]
        alone = {
            group[0]: changes[index] for index, group in enumerate(self.groups) if len(group) == 1
        }
        interactions = np.full(len(self.groups), np.nan)
        for index, group in enumerate(self.groups):
            if len(group) == 2 and set(group) <= alone.keys():
                interactions[index] = changes[index] - alone[group[0]] - alone[group[1]]
        return interactions


def single_units(num_units: int) -> list[tuple[int, ...]]:
    """Groups of one unit each."""
    return [(unit,) for unit in range(num_units)]


def single_units_and_pairs(units: Sequence[int]) -> list[tuple[int, ...]]:
    """Groups of one unit, and every pair of units: interactions follow from them."""
    return [*((unit,) for unit in units), *itertools.combinations(units, 2)]


def rank_units(
    rnn: nn.RNNBase,
    score: Score,
    groups: Sequence[Sequence[int]] | None = None,
    *,
    replacement: Replacement = "zero",
    layer: int = 0,
    direction: int = 0,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> UnitRanking:
    """Unit ablation: switch off groups of units one after the other, and rank them by the effect.

    A unit's state is replaced at every step and in the initial state. For `zero` and `mean`, h and
    c are clamped to 0, or to their means over all that the untouched network did. For a number, c
    is clamped to it, and h = o · tanh(c) follows (GRU and RNN, which have no c: h is). All of it
    runs at the speed of the fused layer.

    Args:
        rnn: the layer, anywhere in a model; it is left as it was.
        score: runs the model, as often as it needs, on N samples, and returns by name a score of
            each sample (N,), the one to rank by first: `{"accuracy": …, "loss": …}`. It must be the
            same when nothing changes: a model with dropout in evaluation mode.
        groups: units that are switched off together; None: each alone. See `single_units`,
            `single_units_and_pairs`.
        replacement: `zero`, `mean` or a number.
        layer: number of the layer.
        direction: 0 forwards, 1 backwards.
        confidence: of the percentile bootstrap intervals over samples (Efron 1979).
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: a unit, layer or direction that `rnn` has not; scores that do not fit, or differ
            from call to call, or do not call `rnn`.
    """
    check_share(confidence, "confidence")
    check_edits([], rnn)
    unit_groups = _groups(rnn, groups)
    check_edits([Edit(units=g, h=0.0, layer=layer, direction=direction) for g in unit_groups], rnn)
    with torch.inference_mode():
        baseline, means = _baseline(rnn, score, replacement, layer, direction)
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in baseline}
        for group in unit_groups:
            edit = _edit(rnn, group, replacement, means, layer, direction)
            with intervene_on(rnn, [edit]):
                scores_of_group = _scores(score())
            for name, values in scores_of_group.items():
                check_shape(f"score {name!r}", values.shape, baseline[name].shape, "the untouched")
                parts[name].append(values - baseline[name])
    differences = {name: np.stack(rows) for name, rows in parts.items()}
    counts = _resamples(len(next(iter(baseline.values()))), num_resamples, seed)
    means_of = {name: float(values.mean()) for name, values in baseline.items()}
    return _ranking(unit_groups, replacement, means_of, differences, counts, confidence)


def _ranking(
    groups: list[tuple[int, ...]], replacement: Replacement, baseline: Mapping[str, float],
    differences: Mapping[str, NDArray[np.float64]], counts: NDArray[np.float64], confidence: float,
) -> UnitRanking:  # fmt: skip
    """Return the ranking by paired differences (G, N) and the weights of resamples (R, N)."""
    change = {name: rows.mean(axis=1) for name, rows in differences.items()}
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    ends = {n: np.quantile(rows @ counts.T, tails, axis=1) for n, rows in differences.items()}
    keys = [-np.abs(change[name]) for name in reversed(change)]
    return UnitRanking(
        groups=tuple(groups), replacement=replacement, baseline=baseline, change=change,
        share_changed=(next(iter(differences.values())) != 0).mean(axis=1),
        low={name: both[0] for name, both in ends.items()},
        high={name: both[1] for name, both in ends.items()},
        order=np.lexsort((np.arange(len(groups)), *keys)), num_samples=counts.shape[1],
        confidence=confidence,
    )  # fmt: skip


def _groups(rnn: nn.RNNBase, groups: Sequence[Sequence[int]] | None) -> list[tuple[int, ...]]:
    if groups is None:
        return single_units(rnn.hidden_size)
    if not len(groups) or not all(isinstance(group, Sequence) for group in groups):
        accepted = "groups of units, such as [(0,), (1, 2)]; or None"
        raise value_error("groups", repr(groups), accepted)
    return [tuple(group) for group in groups]


def _baseline(
    rnn: nn.RNNBase, score: Score, replacement: Replacement, layer: int, direction: int
) -> tuple[dict[str, NDArray[np.float64]], Mapping[str, Tensor]]:
    """Return the untouched scores, and the mean h and c (U,) if they are needed."""
    if isinstance(replacement, str) and replacement not in ("zero", "mean"):
        raise value_error("replacement", repr(replacement), "zero, mean, or a number")
    with intervene_on(rnn) as handle:
        first = _scores(score())
    if handle.num_calls == 0:
        problem = "the layer was not called while the scores were made"
        raise argument_error("rnn", problem, "a layer of the model that score() runs")
    with intervene_on(rnn, trace=replacement == "mean") as handle:
        scores = _scores(score())
    for name, values in scores.items():
        if not np.allclose(values, first[name], rtol=1e-4, atol=1e-6):
            accepted = "the same for the same network: call model.eval() first"
            raise argument_error(f"score {name!r}", "differs from call to call", accepted)
    return scores, handle.means(layer, direction) if replacement == "mean" else {}


def _scores(scores: Mapping[str, ArrayLike | Tensor]) -> dict[str, NDArray[np.float64]]:
    if not isinstance(scores, Mapping) or not scores:
        accepted = 'scores by name, such as {"accuracy": …}'
        raise argument_error("score", f"returns {type(scores).__name__}", accepted)
    return {
        name: as_array(values, f"score {name!r}", ("sample",), finite=True).astype(np.float64)
        for name, values in scores.items()
    }


def _edit(
    rnn: nn.RNNBase, group: tuple[int, ...], replacement: Replacement,
    means: Mapping[str, Tensor], layer: int, direction: int,
) -> Edit:  # fmt: skip
    units = list(group)
    has_cells = rnn.mode == "LSTM"
    if replacement == "mean":
        c = means["c"][units] if has_cells else None
        return Edit(units=units, layer=layer, direction=direction, h=means["h"][units], c=c)
    value = 0.0 if replacement == "zero" else float(replacement)
    h = value if replacement == "zero" or not has_cells else None
    return Edit(units=units, layer=layer, direction=direction, h=h, c=value if has_cells else None)


def _resamples(num: int, num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the weight of each sample in each resample (num_resamples, num); rows sum to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num, np.full(num, 1 / num), num_resamples) / num
