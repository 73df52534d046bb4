"""What every function on bare modules returns can be looked at, and what is seen is in it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

from visualization import render
from visualization.recurrent import (
    ProbeTable,
    classify_units,
    compare_answers,
    extract_automaton,
    find_matches,
    gate_saturation,
    match_units,
    patch_units,
    probe_states,
    rank_units,
    state_paths,
    trace_cells,
    unit_text_heatmap,
)

torch.manual_seed(0)
BITS = torch.randint(0, 2, (120, 6))
INPUTS = nn.functional.one_hot(BITS, 2).float()
LAYERS = {
    "lstm": nn.LSTM(2, 5, batch_first=True),
    "gru, both directions": nn.GRU(2, 5, 2, bidirectional=True, batch_first=True),
    "rnn": nn.RNN(2, 5, batch_first=True),
}
READ_OUTS = {name: nn.Linear(10 if rnn.bidirectional else 5, 2) for name, rnn in LAYERS.items()}
Look = Callable[[nn.RNNBase, nn.Module], Any]


def answers(rnn: nn.RNNBase, read_out: nn.Module) -> torch.Tensor:
    """Return a bare model's answers (sample, place)."""
    return read_out(rnn(INPUTS)[0]).argmax(-1)


def states(rnn: nn.RNNBase) -> torch.Tensor:
    """Return the first row of hidden states (sample, time, unit)."""
    return trace_cells(rnn, INPUTS).h[0]


LOOKS: dict[str, Look] = {
    "trace_cells": lambda rnn, _: trace_cells(rnn, INPUTS),
    "unit_text_heatmap": lambda rnn, _: unit_text_heatmap(trace_cells(rnn, INPUTS), BITS),
    "rank_units": lambda rnn, out: rank_units(
        rnn, lambda: {"accuracy": answers(rnn, out)[:, -1] == BITS[:, 0]}
    ),
    "rank_units in groups": lambda rnn, out: rank_units(
        rnn, lambda: {"accuracy": answers(rnn, out)[:, -1] == BITS[:, 0]}, [(0, 1), (2, 3, 4)],
        replacement=0.2,
    ),
    "classify_units": lambda rnn, _: classify_units(states(rnn), BITS),
    "probe_states": lambda rnn, _: probe_states(
        states(rnn), {"bit": BITS, "ones": BITS.cumsum(1).double()}
    ),
    "match_units": lambda rnn, _: match_units(states(rnn), states(rnn).flip(-1)),
    "find_matches": lambda rnn, _: find_matches(states(rnn), 0, 1, 3, -0.5, symbols=BITS),
    "state_paths": lambda rnn, _: state_paths(states(rnn), "bit", BITS),
    "state_paths, one component": lambda rnn, _: state_paths(states(rnn), "bit", BITS, 1),
    "patch_units": lambda rnn, out: patch_units(rnn, lambda: answers(rnn, out), 2),
    "compare_answers": lambda rnn, out: compare_answers(
        answers(rnn, out)[:, -1] == BITS[:, 0], BITS[:, 1], groups={"ones": BITS.sum(1)}
    ),
}  # fmt: skip


def test_scores_of_probes_are_written_as_they_are() -> None:
    """Only a leading 0 is left out of a score with two decimals, with and without a sign."""
    scores = np.array([[-20.85, 0.5, -0.25, 10.05, 1.0]])
    blank = np.zeros((1, 5, 3))
    table = ProbeTable(
        quantities=("q",), categorical=np.array([False]), scores=scores, controls=0 * scores,
        correlations=blank, units=("0", "1", "2"), num_samples=70, held_out=0.3,
    )  # fmt: skip
    texts = [text.get_text() for text in render.draw(table).axes[0].texts]
    assert texts == ["-20.85", ".50", "-.25", "10.05", "1.00"]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", LAYERS)
def test_what_a_bare_model_gives_is_drawn(kind: str, look: str) -> None:
    """Each function takes each kind of bare layer, and render draws what it returns."""
    record = LOOKS[look](LAYERS[kind], READ_OUTS[kind])
    png = render.png(render.draw(record), dpi=30)
    assert png.startswith(b"\x89PNG")
    assert len(png) > 1500  # not an empty sheet
    assert render.caption(record) or look == "trace_cells"


@pytest.mark.parametrize("kind", ["lstm", "gru, both directions"])
def test_gates_are_drawn_by_name(kind: str) -> None:
    """A panel stands for each sigmoid gate, with a dot for each unit; an RNN has none to draw."""
    record = gate_saturation(trace_cells(LAYERS[kind], INPUTS))
    figure = render.draw(record)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert [title[-1] for title in titles] == (["i", "f", "o"] if kind == "lstm" else ["r", "z"])
    assert all(len(axes.collections[0].get_offsets()) == 5 for axes in figure.axes)
    with pytest.raises(ValueError, match="has no gates; accepted: lstm, gru"):
        gate_saturation(trace_cells(LAYERS["rnn"], INPUTS))


def test_a_trace_shows_every_quantity_and_no_empty_panel() -> None:
    """A trace's figure has a panel for each quantity, says what it shows, and hides the others."""
    for kind, names in (("lstm", "chifgo"), ("gru, both directions", "hrzn"), ("rnn", "h")):
        figure = render.draw(trace_cells(LAYERS[kind], INPUTS))
        shown = [axes for axes in figure.axes if axes.axison and axes.get_title("left")]
        assert [axes.get_title("left")[-1] for axes in shown] == list(names)
        empty = [axes for axes in figure.axes if axes.axison and not axes.has_data()]
        assert empty == []
        assert figure.get_suptitle() == "sample 0, layer 0"


def test_the_ranking_counts_changes_that_cancel() -> None:
    """A unit that makes one answer right and another wrong is not counted as changing none."""
    rnn = LAYERS["lstm"]
    calls = iter(range(99))

    def score() -> dict[str, np.ndarray]:
        right = np.zeros(4)
        right[0 if next(calls) < 2 else 1] = 1.0  # from the third call on another one is right
        rnn(INPUTS)
        return {"accuracy": right}

    ranking = rank_units(rnn, score, [(0,)])
    assert ranking.change["accuracy"].tolist() == [0.0]
    assert ranking.share_changed.tolist() == [0.5]
    assert "0 change no sample's accuracy" in render.draw(ranking).get_suptitle()


def test_long_questions_and_many_groups_leave_room_for_the_bars() -> None:
    """A comparison of long questions by many quantities is drawn without a lost axis."""
    right, labels = BITS[:, 0].bool(), ["123456789+" * 9] * 119 + ["1+2"]
    groups = {f"quantity {k}": BITS.cumsum(1)[:, k] for k in range(6)} | {"many": np.arange(120)}
    record = compare_answers(right, BITS[:, 1], groups=groups, labels=labels)
    figure = render.draw(record)
    assert render.png(figure, dpi=30).startswith(b"\x89PNG")
    boxes = [axes.get_position() for part in figure.subfigs for axes in part.axes if axes.axison]
    assert len(boxes) == 8
    assert all(box.height > 0.3 and box.width > 0.2 for box in boxes)


def test_an_automaton_of_a_bare_layer_is_drawn() -> None:
    """The automaton of a layer that answers the bit it reads has two states, and is drawn."""
    machine = extract_automaton(LAYERS["rnn"], INPUTS, BITS, BITS.bool().numpy())
    assert machine.num_states == 2
    words = [text.get_text() for text in render.draw(machine).findobj(Text)]
    assert any(text.startswith("2 states, agreement 100 %") for text in words)
    assert {"accept", "reject"} <= set(words)
    assert render.text(machine).count("accept") == 1
