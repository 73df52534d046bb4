"""The views of a recurrent layer by a study of it, and what a donor gives over."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.inspection.observation import Observation, RecurrentPart, intervene
from agents.core.inspection.recurrent import RecurrentViews
from tasks.core.task import Row
from tests.visualization.recurrent.test_cells import inputs, layer


def study_of(
    rnn: nn.RNNBase, question: Tensor, known: dict[str, NDArray[Any]] | None = None
) -> Observation:
    """Return a study of questions (N, T, I) that are answered by the layer's final states."""

    def write() -> tuple[Tensor, Tensor]:
        state = rnn(question)[1]
        last = (state[0] if isinstance(state, tuple) else state)[-2:].transpose(0, 1).flatten(1)
        return last, last[:, None]

    def score() -> dict[str, Tensor]:
        return {"first": write()[0][:, 0]}

    reads = np.full(tuple(question.shape[:2]), "a")
    names = [f"question {n}" for n in range(len(question))]

    def loss() -> Tensor:
        return write()[0].mean()

    part = RecurrentPart("reader", rnn, reads, None, known or {}, "", score)
    return Observation(
        title="", rows=[Row(name, "", "", True) for name in names], labels=names, model=rnn,
        loss=loss, generate=write, recurrent=[part], short_names=names,
    )  # fmt: skip


def views_of(rnn: nn.RNNBase, question: Tensor, known: Any = None) -> RecurrentViews:
    """Return the views of such a study."""
    task = SimpleNamespace(samples=lambda split, num: question)
    task.for_display = lambda: task
    agent: Any = SimpleNamespace(
        model=rnn, task=task, observe=lambda batch: study_of(rnn, batch, known)
    )
    return RecurrentViews(agent)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_views_of_a_task_that_says_nothing_of_its_texts(bidirectional: bool) -> None:
    """Without quantities, paths are coloured by step, units follow nothing, and none is probed."""
    views = views_of(layer("gru", bidirectional=bidirectional), inputs(80, 4, 4))
    cells, paths = views.cells(), views.paths()
    assert views.probes() == {}
    assert all("follows" not in part.unit_notes for part in cells.layers)
    assert len(cells.layers) == len(paths) == 1 + bidirectional
    for path in paths.values():
        assert path.quantity == "time step"
        np.testing.assert_array_equal(path.colors[7], np.arange(4))


def test_units_that_match_are_on_by_tanh_of_a_cell_and_by_h_of_others() -> None:
    """A unit is on at 0.3 or more of tanh(c) in an LSTM, and of h itself in a plain RNN."""
    value = torch.tensor([0.305, 0.315])  # tanh of the first is below 0.3, of the second above
    plain, lstm = (
        nn.RNN(1, 2, nonlinearity="relu", batch_first=True),
        nn.LSTM(1, 2, batch_first=True),
    )
    opened = torch.full((2,), 100.0)  # a gate at 1
    with torch.no_grad():
        for parameter in [*plain.parameters(), *lstm.parameters()]:
            parameter.zero_()
        plain.bias_ih_l0[:] = value
        lstm.bias_ih_l0[:] = torch.cat([opened, -opened, value.atanh(), value])
    for rnn, wanted in ((plain, (0, 1)), (lstm, (1,))):
        assert views_of(rnn, torch.zeros(80, 4, 1)).matches()["reader"].units == wanted


def test_what_a_backward_unit_follows_at_the_end_is_what_it_has_read_last() -> None:
    """The end of a backward direction is the first step, where it has read everything."""
    rnn, x = layer("gru", bidirectional=True), inputs(80, 4, 4)
    known = {"start": x[:, -1, 0].numpy(), "all": rnn(x)[1][1, :, 2].detach().numpy()}
    backwards = views_of(rnn, x, known).cells().layers[1]
    assert backwards.unit_notes["follows"][2] == "+1.00 all, end"


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_donor_gives_over_what_each_direction_has_read(kind: str, num_layers: int) -> None:
    """All units as after the last step read make the answer the donor's, in both directions."""
    rnn = layer(kind, bidirectional=True, num_layers=num_layers)

    def make(question: Tensor) -> Observation:
        return study_of(rnn, question)

    texts = {"one": inputs()[:1], "other": inputs()[1:2]}
    task: Any = SimpleNamespace(encode=lambda words: texts[words[0]], decode=lambda codes: [""])
    own, other = (make(question).answer()[1][0] for question in texts.values())
    whole = intervene(make, task, "one", donor="other")
    np.testing.assert_allclose(whole.probabilities, torch.stack([own, other]).softmax(-1).detach())
    before = intervene(make, task, "one", donor="other", time=-2).probabilities
    assert np.abs(before[1] - whole.probabilities[1]).max() > 1e-3
    assert whole.changes == ("reader: all units as after step 4 of question 0",)
