"""Recurrent regression: a series of numbers to one number.

Le et al. 2015 (1504.00941, section 4.1) compare LSTM, tanh RNN and their IRNN on the adding
problem; all three are settings here. Long series are learned in a minute with a curriculum of
growing length (Bengio et al. 2009), and forget gates that are open at first.
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
from tasks.adding_problem import TOLERANCE
from tasks.core.task import SeriesNumbers, SeriesToNumber

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation

_TENTHS = np.array([f"{tenth / 10:.1f}" for tenth in range(21)])  # of answers, from 0 to 2


class RNNRegressor(nn.Module):
    """Recurrent layer and linear head. B samples, T steps, C channels."""

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
    """Recurrent regression, trained by the squared error after the last step."""

    name = "adding_lstm"
    Config = AddingConfig
    spec_type = SeriesToNumber
    config: AddingConfig
    model: RNNRegressor

    @staticmethod
    def build_model(config: AddingConfig, spec: SeriesToNumber) -> nn.Module:
        """Return the network for the task's channels."""
        return RNNRegressor(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """True: the loss is not random, and no sample affects another."""
        return True

    def loss(self, batch: SeriesNumbers) -> Tensor:
        """Return the mean squared error."""
        answers = self.network(batch.series)
        return F.mse_loss(answers.float(), batch.number)

    def predict_batch(self, batch: SeriesNumbers) -> Tensor:
        """Return the answers (batch, 1)."""
        return cast("Tensor", self.model(batch.series))

    def observe(self, batch: SeriesNumbers) -> "Observation":
        """Return the observation of a batch, with the recurrent layer."""
        from agents.core.inspection.observation import AnswerScores, RecurrentPart, observe

        tensors = to_device(batch, self.device)
        probe_targets = self.task.probe_targets(batch)

        def score() -> dict[str, Tensor]:
            error = (self.model(tensors.series) - tensors.number)[:, 0]
            return {f"within {TOLERANCE}": error.abs() < TOLERANCE, "loss": error**2}

        def generate() -> tuple[Tensor, Tensor]:
            numbers = self.model(tensors.series)
            return numbers, _near_tenths(numbers)

        texts, symbols = _symbols(batch.series)
        part = RecurrentPart(
            "reader", self.model.recurrent, texts, None, probe_targets.encoder,
            probe_targets.position_keys[0], score, input_symbols=symbols,
        )  # fmt: skip
        rows = self.task.rows(self.predict_arrays(batch), batch)
        scores = AnswerScores(
            scores=lambda numbers: self.model(tensors.series[numbers]),
            texts=np.array([[row.answer] for row in rows]), quantity="answer",
        )  # fmt: skip
        return observe(
            self, batch, rows=rows, recurrent=(part,), characters=tuple(_TENTHS),
            answer_scores=scores,
            labels=[f"{row.short_question} = {row.answer}" for row in rows], generate=generate,
            tolerance=TOLERANCE, short_names=[row.short_question for row in rows],
        )  # fmt: skip


def _symbols(series: Any) -> tuple[Any, Any]:
    """Return the input at each step (B, T) as text (0.3 or 0.3*) and as one character (· or 3).

    The first has the number in tenths, with a space if there is no star, so that columns are
    aligned; the second has the first decimal of a marked number.
    """
    number, marked = np.asarray(series)[..., 0], np.asarray(series)[..., 1] > 0
    tenths = _TENTHS[np.rint(10 * number).astype(int)]
    digit = np.minimum(10 * number, 9).astype(int).astype(str)
    texts = np.char.add(tenths, np.where(marked, "*", " "))
    return texts, np.where(marked, digit, "·")


def _near_tenths(number: Tensor) -> Tensor:
    """Return logarithms (N, 1, 21) of weights on the two tenths next to each number (N, 1).

    Their mean is the number, clamped to 0 to 2 (the encoding of scalars of Schrittwieser et al.
    2019, 1911.08265): the answer for views that need a distribution.
    """
    position = number.double().clamp(0, 2)[..., None] * 10
    tenth = torch.arange(21, device=number.device)
    return (1 - (position - tenth).abs()).clamp(min=0).log()
