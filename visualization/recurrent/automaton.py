"""Automaton extraction: the finite automaton that a trained recurrent network carries out.

The network's states after each step (h of every layer and, of an LSTM, tanh of c, which is what a
cell can show of itself) are clustered, each cluster becomes a state, and each transition is the one
that most training sequences take, as in Omlin & Giles 1996, "Extraction of rules from discrete-time
recurrent neural networks"; clusters are those of k-means, as in Wang et al. 2018, "An empirical
evaluation of rule extraction from recurrent neural networks". Then the machine is minimised.

States with different outputs never share a cluster; states that differ by rounding always do. The
number of clusters for each output grows until the machine agrees with the network at every step of
the validation sequences, or there would be more than `max_states`. Of the machines that fall behind
the best by no more than a standard error, the smallest is taken. `agreement` and `exact` come from
held-out sequences that had no part in this: no string of symbols is in two of the three sets.

A transition that no training sequence takes is that of the nearest cluster that has one, of the
same output if there is such a cluster; a symbol that no training sequence reads at all changes
nothing. The network gives no answer before the first symbol, so the initial state has the output
that makes the machine smallest.

N is sequences, T time steps, F the numbers that make up one state, A symbols, Q states.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_count, check_share, value_error
from visualization.core.preserve import preserve_state
from visualization.recurrent.cells import trace_cells
from visualization.recurrent.inputs import State
from visualization.recurrent.machine import Automaton, Ints, minimise, run_automaton

__all__ = ["Automaton", "extract_automaton", "minimise"]

Floats = NDArray[np.float32]

_VALIDATION_SHARE = 0.25  # of the sequences that are not held out
_LEAST_SEQUENCES = 4  # two to learn from, one to choose by, one held out
_SIZES_AFTER_PERFECT = 2  # a few more clusters may still give a smaller machine
_MOST_POINTS = 5_000  # states of one output that centres are fitted to
_SAME_STATE = 1e-3  # in root mean squares of the states: below this a difference is noise


def extract_automaton(
    rnn: nn.RNNBase,
    inputs: Tensor,
    symbols: Any,
    outputs: Any,
    *,
    state: State = None,
    max_states: int = 128,
    held_out: float = 0.3,
    seed: int = 0,
    alphabet: Sequence[str] | None = None,
) -> Automaton:
    """Automaton extraction: the smallest one found that answers like a trained network.

    How it is found, and what happens where the sequences say nothing, is at the top of this
    module: Omlin & Giles 1996, with the clusters of Wang et al. 2018.

    Args:
        rnn: a one-directional nn.LSTM, nn.GRU or nn.RNN; it is left as it was.
        inputs: what it reads, (N, T, input) or (T, N, input) as its `batch_first` says.
        symbols: what is read at each step, (N, T) of integers or strings.
        outputs: what is answered after each step, (N, T) of booleans ("reject", "accept"), integers
            or strings; or a function from the top layer's states, a tensor (N, T, hidden), to that.
        state: where each sequence starts, as `rnn` takes it; all N must start alike. None: zeros.
        max_states: most clusters, the initial state not counted.
        held_out: share of the sequences that the result is measured on, between 0 and 1.
        seed: decides which sequences are held out, and where k-means starts.
        alphabet: names of the integers 0, 1, …, or the order of the strings; those that are never
            read are left out. None: what is read, sorted.

    Raises:
        ValueError: names the argument, its value and what is accepted.
    """
    _check_arguments(rnn, max_states, held_out)
    with torch.no_grad(), preserve_state(rnn):
        trace = trace_cells(rnn, inputs, state)
        targets = outputs(trace.h[-1]) if callable(outputs) else outputs
    shape = (trace.h.shape[1], trace.h.shape[2])
    names, read = _symbols(symbols, shape, alphabet)
    labels, answers = _labels(targets, shape, max_states)
    train, validation, test = _split(read, held_out, seed)
    blocks = [trace.h] if trace.c is None else [trace.h, torch.tanh(trace.c)]
    states, start = _vectors(blocks, _start(state, blocks), train)
    train_set = _TrainSet(
        states=states, start=start, read=read[train], answers=answers[train],
        num_symbols=len(names), labels=labels,
    )  # fmt: skip
    best = _search(train_set, read[validation], answers[validation], max_states, seed)
    return _automaton_of(best, names, labels, read[test], answers[test])


def _automaton_of(
    best: "_Candidate", names: tuple[str, ...], labels: tuple[str, ...], read: Ints, answers: Ints
) -> Automaton:
    right = best.right(read, answers)
    return Automaton(
        alphabet=names, outputs=tuple(labels[label] for label in best.outputs),
        transitions=best.transitions, initial=0, num_clusters=best.num_clusters,
        agreement=float(right.mean()), exact=float(right.all(axis=1).mean()),
        num_held_out=right.size,
    )  # fmt: skip


@attrs.frozen(kw_only=True, eq=False)
class _TrainSet:
    """Training set: the sequences from which clusters and transitions are learned."""

    states: Floats  # (N, T, F)
    start: Floats  # (F,)
    read: Ints  # (N, T), below num_symbols
    answers: Ints  # (N, T), positions in labels
    num_symbols: int
    labels: tuple[str, ...]


@attrs.frozen(eq=False)
class _Clusters:
    """Clusters of states; the initial state comes after them, as one of its own."""

    centres: Floats  # (Q + 1, F)
    outputs: Ints  # (Q,), positions in the labels
    members: Ints  # (N, T), the cluster of each state


@attrs.frozen(eq=False)
class _Candidate:
    """A minimised machine whose initial state is 0."""

    transitions: Ints  # (Q, A)
    outputs: Ints  # (Q,), positions in the labels
    num_clusters: int

    def right(self, read: Ints, answers: Ints) -> NDArray[np.bool_]:
        """Tell at which steps (N, T) the machine answers as the network does."""
        return np.equal(self.outputs[run_automaton(self.transitions, 0, read)], answers)


def _search(
    train_set: _TrainSet, read: Ints, answers: Ints, max_states: int, seed: int
) -> _Candidate:
    """Return the smallest machine whose agreement on `read` is within an error of the best."""
    candidates: list[_Candidate] = []
    scores: list[NDArray[np.float64]] = []  # of each candidate: its agreement with each sequence
    since_perfect = 0
    for clusters in _clusterings(train_set, max_states, seed):
        candidates.append(_candidate(clusters, train_set))
        scores.append(candidates[-1].right(read, answers).mean(axis=1))
        since_perfect += since_perfect > 0 or scores[-1].min() == 1
        if since_perfect > _SIZES_AFTER_PERFECT:
            break
    best = max(scores, key=np.mean)
    good = []
    for candidate, score in zip(candidates, scores, strict=True):
        loss = best - score  # paired, since some sequences are hard for all
        if loss.mean() <= loss.std() / len(loss) ** 0.5:
            good.append(candidate)
    return min(good, key=lambda candidate: len(candidate.outputs))  # the first of the smallest


def _clusterings(train_set: _TrainSet, max_states: int, seed: int) -> Iterator[_Clusters]:
    """Yield clusterings with at most 1, 2, 3, 4, 6, 8, 12, 16, … clusters for each output."""
    flat = train_set.states.reshape(-1, train_set.states.shape[-1])
    groups = []  # of each output: its label, its places in `flat`, its different states
    for label in np.unique(train_set.answers).tolist():
        indices = np.flatnonzero(train_set.answers == label)
        groups.append((label, indices, *_distinct(flat[indices])))
    most = max(len(points) for _, _, points, _ in groups)
    for size in [1, *(factor * 2**power for power in range(30) for factor in (2, 3))]:
        if sum(min(size, len(points)) for _, _, points, _ in groups) > max_states:
            return
        members = np.empty(len(flat), dtype=np.int64)
        centres: list[Floats] = []
        outputs: list[int] = []
        for label, indices, points, same in groups:
            clusters = _k_means(points, size, seed)[same]
            members[indices] = clusters + len(outputs)
            numbers = range(clusters.max() + 1)
            centres.extend(flat[indices[clusters == cluster]].mean(axis=0) for cluster in numbers)
            outputs.extend(label for _ in numbers)
        all_centres = np.stack([*centres, train_set.start])
        yield _Clusters(all_centres, np.asarray(outputs), members.reshape(train_set.answers.shape))
        if size >= most:  # every state has a cluster of its own
            return


def _distinct(points: Floats) -> tuple[Floats, Ints]:
    """Return points that differ by more than rounding, and the position of each point in them."""
    grid = np.round(points / (0.1 * _SAME_STATE)).astype(np.int64)
    _, first, same = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    return points[first], same.reshape(-1)


def _k_means(points: Floats, count: int, seed: int) -> Ints:
    """Return the cluster of each point, of at most `count`, numbered from 0 without gaps."""
    clusters = _cluster(points, count, seed) if len(points) > count else np.arange(len(points))
    centres = np.stack([points[clusters == c].mean(axis=0) for c in np.unique(clusters)])
    # Noise can put one state on two sides of a rounding edge: near centres become one.
    near = np.abs(centres[:, None] - centres).max(axis=-1) < _SAME_STATE
    joined = near.argmax(axis=1)
    return np.unique(joined[np.unique(clusters, return_inverse=True)[1]], return_inverse=True)[1]


def _cluster(points: Floats, count: int, seed: int) -> Ints:
    from sklearn.cluster import KMeans  # half a second: only who extracts an automaton waits for it
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    sample = points
    if len(points) > _MOST_POINTS:
        generator = np.random.default_rng(seed)
        sample = points[generator.choice(len(points), _MOST_POINTS, replace=False)]
    # One thread adds up in one order, so that the same seed gives the same clusters.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer clusters than asked for: points that differ by noise alone. They are joined later.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(count, n_init=3, random_state=seed).fit(sample).predict(points)
    return np.asarray(clusters, dtype=np.int64)


def _candidate(clusters: _Clusters, train_set: _TrainSet) -> _Candidate:
    """Return the smallest machine over all outputs that the initial state may have."""
    transitions = _majority(clusters, train_set)
    initial = len(clusters.outputs)
    distances = np.linalg.norm(clusters.centres[:-1] - clusters.centres[-1], axis=1)
    nearest = clusters.outputs[np.argsort(distances, kind="stable")]
    machines = [  # the output of the nearest state first: it is taken if several are as small
        minimise(
            transitions, [train_set.labels[label] for label in [*clusters.outputs, own]], initial
        )
        for own in dict.fromkeys(nearest.tolist())
    ]
    smallest, outputs = min(machines, key=lambda machine: len(machine[1]))
    codes = np.asarray([train_set.labels.index(output) for output in outputs])
    return _Candidate(smallest, codes, initial + 1)


def _majority(clusters: _Clusters, train_set: _TrainSet) -> Ints:
    """Return the transitions (Q + 1, A) that most steps take; of rare ones, see the top."""
    num_states = len(clusters.centres)
    before = np.column_stack(
        [np.full(len(clusters.members), num_states - 1), clusters.members[:, :-1]]
    )
    counts = np.zeros((num_states, train_set.num_symbols, num_states), dtype=np.int64)
    np.add.at(counts, (before, train_set.read, clusters.members), 1)
    transitions = counts.argmax(axis=-1)
    is_observed = counts.sum(axis=-1) > 0
    outputs = np.append(clusters.outputs, -1)  # the initial state is like no other
    for state, symbol in np.argwhere(~is_observed):
        donors = np.flatnonzero(is_observed[:, symbol])
        if not len(donors):
            transitions[state, symbol] = state
            continue
        alike = donors[outputs[donors] == outputs[state]]
        donors = alike if len(alike) else donors
        distances = np.linalg.norm(clusters.centres[donors] - clusters.centres[state], axis=1)
        transitions[state, symbol] = transitions[donors[distances.argmin()], symbol]
    return np.asarray(transitions, dtype=np.int64)


def _check_arguments(rnn: nn.RNNBase, max_states: int, held_out: float) -> None:
    if isinstance(rnn, nn.RNNBase) and rnn.bidirectional:
        raise argument_error("rnn", "it reads in both directions", "one that reads forwards")
    check_count(max_states, "max_states")
    check_share(held_out, "held_out")


def _table(name: str, values: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """Return values as an array (N, T) of integers or strings."""
    table = to_numpy(values)
    if table.shape != shape:
        raise value_error(name, f"shape {table.shape}", f"(batch, time) = {shape}")
    if table.dtype.kind not in "biuU":
        raise value_error(name, table.dtype, "booleans, integers, strings")
    return table


def _symbols(
    symbols: Any, shape: tuple[int, int], alphabet: Sequence[str] | None
) -> tuple[tuple[str, ...], Ints]:
    """Return the alphabet that is read, and positions in it (N, T)."""
    table = _table("symbols", symbols, shape)
    values, codes = np.unique(table, return_inverse=True)
    codes = codes.reshape(shape)
    if alphabet is None:
        return tuple(str(symbol) for symbol in values.tolist()), codes
    alphabet_values: list[Any] = (
        list(alphabet) if table.dtype.kind == "U" else list(range(len(alphabet)))
    )
    unknown = sorted(set(values.tolist()) - set(alphabet_values))
    if unknown or len(set(alphabet)) < len(alphabet):
        problem = f"has no {unknown[0]!r}, which is read" if unknown else "has a name twice"
        raise argument_error("alphabet", f"{list(alphabet)} {problem}", "one name a symbol")
    order = [alphabet_values.index(symbol) for symbol in values.tolist()]
    return tuple(alphabet[index] for index in sorted(order)), np.argsort(np.argsort(order))[codes]


def _labels(targets: Any, shape: tuple[int, int], max_states: int) -> tuple[tuple[str, ...], Ints]:
    """Return the labels that are answered, and positions in them (N, T)."""
    table = _table("outputs", targets, shape)
    values, codes = np.unique(table, return_inverse=True)
    if len(values) > max_states:
        raise argument_error("outputs", f"{len(values)} labels", f"at most {max_states}")
    names = ("reject", "accept")
    is_bool = table.dtype.kind == "b"
    labels = tuple(names[value] if is_bool else str(value) for value in values.tolist())
    return labels, codes.reshape(shape)


def _split(read: Ints, held_out: float, seed: int) -> tuple[Ints, Ints, Ints]:
    """Train, validation and test sequences; equal ones are in one set."""
    strings, string = np.unique(read, axis=0, return_inverse=True)
    count = len(strings)
    if count < _LEAST_SEQUENCES:
        problem = f"{count} different sequences"
        raise argument_error("symbols", problem, f"{_LEAST_SEQUENCES} or more")
    order = np.random.default_rng(seed).permutation(count)
    num_test = min(max(1, round(held_out * count)), count - 3)
    num_validation = max(1, round(_VALIDATION_SHARE * (count - num_test)))
    parts = np.split(order, [num_test, num_test + num_validation])
    test, validation, train = (np.flatnonzero(np.isin(string.reshape(-1), part)) for part in parts)
    return train, validation, test


def _start(state: State, blocks: Sequence[Tensor]) -> list[Tensor]:
    """Return the one state (L, U) that all sequences start in, for each block (L, N, T, U)."""
    if state is None:
        return [block.new_zeros(block.shape[0], block.shape[-1]) for block in blocks]
    states = state if isinstance(state, (tuple, list)) else (state,)
    for values in states:
        if not torch.allclose(values, values[:, :1], atol=1e-6):
            raise argument_error("state", "it differs among the sequences", "one for all")
    return [values[:, 0] for values in states]


def _vectors(
    blocks: Sequence[Tensor], start: Sequence[Tensor], train: Ints
) -> tuple[Floats, Floats]:
    """Return states (N, T, F) of the sequences to learn from, and the initial one (F,).

    The blocks of each layer are scaled to a variance of 1 on average over units, so that a layer
    with small activations has its say.
    """
    states, starts = [], []
    for block, first in zip(blocks, start, strict=True):
        for layer, own in zip(block, first, strict=True):
            values = layer.detach()[torch.as_tensor(train)].float().cpu().numpy()
            scale = float(values.var(axis=(0, 1)).mean() ** 0.5) or 1.0
            states.append(values / scale)
            starts.append(own.detach().float().cpu().numpy() / scale)
    return np.concatenate(states, axis=-1), np.concatenate(starts)
