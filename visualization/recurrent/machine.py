"""Moore machines: running and minimising them."""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error, value_error
from visualization.core.records import brief_repr

Ints = NDArray[np.int64]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Automaton:
    """Moore machine that represents a recurrent network: it answers after every symbol.

    The network never answers before the first symbol, so the initial state's own output, though
    it is shown, is counted in neither `agreement` nor `exact` until the machine comes back to it.

    Attributes:
        alphabet: the symbols that are read, in the order of the columns of `transitions`.
        outputs: one label a state, such as `even` and `odd`.
        transitions: the next state (state, symbol), from 0 to `num_states` - 1.
        initial: the state before the first symbol.
        num_clusters: clusters of the network's states that it was minimised from, one of them the
            network's initial state.
        agreement: share of held-out steps at which it answers as the network does, 0 to 1.
        exact: share of held-out sequences with agreement at every step, 0 to 1.
        num_held_out: held-out steps.
    """

    alphabet: tuple[str, ...]
    outputs: tuple[str, ...]
    transitions: Ints
    initial: int
    num_clusters: int
    agreement: float
    exact: float
    num_held_out: int

    @property
    def num_states(self) -> int:
        """States of the machine."""
        return len(self.outputs)

    def run(self, symbols: Ints) -> Ints:
        """Return the state after every symbol, (batch, time).

        Args:
            symbols: positions in `alphabet` (batch, time).

        Raises:
            ValueError: a symbol is not a position in `alphabet`, or `symbols` has other dimensions.
        """
        return run_automaton(self.transitions, self.initial, symbols)

    def answers(self, symbols: Ints) -> NDArray[np.str_]:
        """Return the label of the state after every symbol, (batch, time); errors as in `run`."""
        return np.asarray(self.outputs)[self.run(symbols)]


def run_automaton(transitions: Ints, initial: int, symbols: Ints) -> Ints:
    """Return the states (batch, time) through which `symbols` (batch, time) lead from `initial`.

    Raises:
        ValueError: `symbols` is not (batch, time) of columns of `transitions` (state, symbol).
    """
    symbols = np.asarray(symbols)
    if symbols.ndim != 2 or symbols.dtype.kind not in "iu":
        value = f"{symbols.dtype} of shape {symbols.shape}"
        raise value_error("symbols", value, "integers (batch, time)")
    num_symbols = transitions.shape[1]
    if symbols.size and not (symbols.min() >= 0 and symbols.max() < num_symbols):
        value = f"{symbols.min()} to {symbols.max()}"
        raise value_error("symbols", value, f"0 to {num_symbols - 1}")
    states = np.empty(symbols.shape, dtype=np.int64)
    state = np.full(len(symbols), initial, dtype=np.int64)
    for step, read in enumerate(symbols.T):
        state = transitions[state, read]
        states[:, step] = state
    return states


def minimise(
    transitions: Ints, outputs: Sequence[str], initial: int = 0
) -> tuple[Ints, tuple[str, ...]]:
    """Automaton minimisation (Moore 1956): the smallest machine that answers alike.

    States that cannot be reached are left out. The others are parted by their outputs, and classes
    are split as long as two states of one class are led to different classes by some symbol: Moore
    1956, "Gedanken-experiments on sequential machines". The states of the result are numbered
    breadth first from the initial one, which is 0, in the order of the symbols; so machines that
    answer alike have equal results.

    Args:
        transitions: the next state (state, symbol).
        outputs: one label a state.
        initial: the state before the first symbol.

    Raises:
        ValueError: `transitions` is not (state, symbol) of states, or the others do not fit it.
    """
    transitions = np.asarray(transitions)
    _check(transitions, outputs, initial)
    order = _breadth_first(transitions, initial)
    index = np.full(len(transitions), -1)
    index[order] = np.arange(len(order))
    reached = index[transitions[order]]
    classes = _equivalent(reached, [outputs[state] for state in order])
    # All members of a class are led to the same classes, so that any one speaks for it.
    _, members = np.unique(classes, return_index=True)
    quotient = classes[reached[members]]
    numbering = _breadth_first(quotient, int(classes[0]))
    index = np.empty(len(quotient), dtype=np.int64)
    index[numbering] = np.arange(len(quotient))
    labels = tuple(outputs[order[members[number]]] for number in numbering)
    return index[quotient[numbering]], labels


def _check(transitions: Ints, outputs: Sequence[str], initial: int) -> None:
    count = len(transitions)
    if transitions.ndim != 2 or transitions.dtype.kind not in "iu" or not transitions.size:
        value = f"{transitions.dtype} of shape {transitions.shape}"
        raise value_error("transitions", value, "integers (state, symbol), at least one of each")
    if transitions.min() < 0 or transitions.max() >= count:
        value = f"{transitions.min()} to {transitions.max()}"
        raise value_error("transitions", value, f"states from 0 to {count - 1}")
    if len(outputs) != count:
        raise argument_error("outputs", f"{len(outputs)} labels", f"one for each of {count} states")
    if not 0 <= initial < count:
        raise value_error("initial", initial, f"a state from 0 to {count - 1}")


def _breadth_first(transitions: Ints, initial: int) -> list[int]:
    """Return the states that can be reached, in the order in which a breadth-first walk does."""
    order = [initial]
    visited = {initial}
    for state in order:  # grows while it is walked
        for following in transitions[state].tolist():
            if following not in visited:
                visited.add(following)
                order.append(following)
    return order


def _equivalent(transitions: Ints, outputs: Sequence[str]) -> Ints:
    """Return the class of each state, of the coarsest partition that output and symbols respect."""
    classes = np.unique(np.asarray(outputs), return_inverse=True)[1].reshape(-1)
    while True:
        rows = np.column_stack([classes, classes[transitions]])
        split = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        if split.max() == classes.max():  # classes are only ever split, so as many are the same
            return classes
        classes = split
