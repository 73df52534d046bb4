"""A recurrent network that reads a series of numbers and answers with one number.

Le et al. 2015 (1504.00941, section 4.1) compare LSTM, tanh RNN and their IRNN on the adding
problem; all three are settings here. What makes long series learnable in a minute is stages of
growing length (curriculum learning, Bengio et al. 2009), with forget gates that begin open.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.adding_lstm import AddingConfig
from agents.core.agent import Agent
from agents.core.layers import chrono_biases, forget_biases, identity_weights, recurrent
from agents.core.training.loop import to_device
from tasks.adding_problem import NEAR
from tasks.core.task import SeriesNumbers, SeriesToNumber

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation

_TENTHS = np.array([f"{tenth / 10:.1f}" for tenth in range(21)])  # of answers, from 0 to 2


class SeriesReader(nn.Module):
    """A recurrent layer and a linear read-out. B samples, T steps, C channels."""

    def __init__(self, config: AddingConfig, spec: SeriesToNumber) -> None:
        super().__init__()
        self.bptt_steps = config.bptt_steps
        self.recurrent = recurrent(
            config.cell, spec.num_channels, config.hidden_size, config.num_layers
        )
        self.readout = nn.Linear(config.hidden_size, 1)
        if config.init == "forget_bias":
            forget_biases(self.recurrent, config.forget_bias)
        elif config.init == "chrono":
            chrono_biases(self.recurrent, config.chrono_length)
        elif config.init == "identity":
            identity_weights(self.recurrent, config.identity_scale)

    def forward(self, series: Tensor) -> Tensor:
        """Return numbers (B, 1) after the last step of series (B, T, C).

        In training gradients stop before the last `bptt_steps` (truncated backpropagation
        through time, Williams and Peng 1990).
        """
        last, state = self.bptt_steps, None
        if self.training and last is not None and last < series.shape[1]:
            with torch.no_grad():
                _, state = self.recurrent(series[:, :-last])
            series = series[:, -last:]
        output, _ = self.recurrent(series, state)
        return cast("Tensor", self.readout(output[:, -1]))


class AddingLSTM(Agent):
    """Reads a whole series, then answers; learned by the squared error of that answer alone."""

    name = "adding_lstm"
    Config = AddingConfig
    spec_type = SeriesToNumber
    config: AddingConfig
    model: SeriesReader

    @staticmethod
    def build_model(config: AddingConfig, spec: SeriesToNumber) -> nn.Module:
        """Return the reader for the task's channels."""
        return SeriesReader(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """Always: nothing is drawn, and no sample is seen beside another."""
        return True

    def loss(self, batch: SeriesNumbers) -> Tensor:
        """Return the mean squared error."""
        answers = self.network(batch.series)
        return F.mse_loss(answers.float(), batch.number)

    def predict_batch(self, batch: SeriesNumbers) -> Tensor:
        """Return the answers (batch, 1)."""
        return cast("Tensor", self.model(batch.series))

    def observe(self, batch: SeriesNumbers) -> "Observation":
        """Return a batch with all that views ask of its answers."""
        from agents.core.inspection.observation import RecurrentPart, observe

        moved = to_device(batch, self.device)
        known = self.task.probe_targets(batch)

        def score() -> dict[str, Tensor]:
            error = (self.model(moved.series) - moved.number)[:, 0]
            return {f"within {NEAR}": error.abs() < NEAR, "loss": error**2}

        def generate() -> tuple[Tensor, Tensor]:
            found = self.model(moved.series)
            return found, _near_tenths(found)

        reads, signs = _symbols(batch.series)
        part = RecurrentPart(
            "reader", self.model.recurrent, reads, None, known.encoder, known.position_keys[0],
            score, signs=signs,
        )  # fmt: skip
        rows = self.task.rows(self.predict_arrays(batch), batch)
        return observe(
            self, batch, rows=rows, recurrent=(part,), characters=tuple(_TENTHS),
            labels=[f"{row.short_question} = {row.answer}" for row in rows], generate=generate,
            tolerance=NEAR, short_names=[row.short_question for row in rows],
        )  # fmt: skip


def _symbols(series: Any) -> tuple[Any, Any]:
    """Return what is read at each step (B, T): such as 0.3 or 0.3*, and in one character: · or 3.

    The first has the number in tenths, with a space where no star is, so that columns stand in
    line; the second has the tenth that a marked number begins with.
    """
    number, marked = np.asarray(series)[..., 0], np.asarray(series)[..., 1] > 0
    tenths = _TENTHS[np.rint(10 * number).astype(int)]
    digit = np.minimum(10 * number, 9).astype(int).astype(str)
    reads = np.char.add(tenths, np.where(marked, "*", " "))
    return reads, np.where(marked, digit, "·")


def _near_tenths(number: Tensor) -> Tensor:
    """Return logarithms (N, 1, 21) of weights on the two tenths beside each number (N, 1).

    Their mean is the number, kept within 0 to 2 (the code of Schrittwieser et al. 2019, 1911.08265,
    for scalars): the answer as views show it that ask for odds.
    """
    place = number.double().clamp(0, 2)[..., None] * 10
    tenth = torch.arange(21, device=number.device)
    return (1 - (place - tenth).abs()).clamp(min=0).log()
