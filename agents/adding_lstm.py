"""A recurrent network that reads a series of numbers and answers with one number.

Le et al. 2015 (1504.00941, section 4.1) compare LSTM, tanh RNN and their IRNN on the adding
problem; all three are settings here. What makes long series learnable in a minute is stages of
growing length (curriculum learning, Bengio et al. 2009), with forget gates that begin open.
"""

from typing import TYPE_CHECKING, Any, Literal, cast

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.config import AgentConfig, ConfigError, Schedule, setting, with_default
from agents.core.layers import chrono_biases, forget_biases, identity_weights, recurrent
from agents.core.training.loop import to_device
from tasks.adding_problem import NEAR
from tasks.core.task import SeriesNumbers, SeriesToNumber

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation

_TENTHS = np.array([f"{tenth / 10:.1f}" for tenth in range(21)])  # of answers, from 0 to 2


@attrs.frozen(kw_only=True)
class AddingConfig(AgentConfig):
    """Sizes and recipe of the adder of marked numbers."""

    hidden_size: int = setting(100, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru", "rnn", "relu_rnn"] = setting(
        "lstm", "kind of recurrent layer; rnn: tanh; relu_rnn with init=identity: the IRNN"
    )
    init: Literal["default", "forget_bias", "chrono", "identity"] = setting(
        "forget_bias",
        "first weights of the recurrent layers. default: torch's; forget_bias: forget gates begin "
        "open; chrono: gates remember over times up to chrono_length; identity: W_hh keeps the "
        "state as it is",
    )
    bptt_steps: int | None = setting(
        None,
        "truncated backpropagation through time: last steps of a series that gradients reach; "
        "null: all",
        ge=1,
        renamed_from="backward_steps",
    )
    forget_bias: float = setting(3.0, "bias of the forget gates, with init=forget_bias")
    chrono_length: int = setting(150, "steps, the longest memory of init=chrono", ge=3)
    identity_scale: float = setting(1.0, "times the identity is W_hh of init=identity", gt=0.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 5e-3)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.05)
    schedule: Schedule = with_default("schedule", "cosine")
    curriculum_loss_threshold: float | None = with_default("curriculum_loss_threshold", 0.01)
    clip_norm: float | None = with_default("clip_norm", 0.3)
    batch_size: int = with_default("batch_size", 20)
    steps: int = with_default("steps", 1_000)
    precision: Literal["fp32", "bf16", "auto"] = with_default("precision", "fp32")
    threads: int | None = with_default("threads", 1)
    eval_every: int | None = with_default("eval_every", 100)
    eval_samples: int = with_default("eval_samples", 500)

    def __attrs_post_init__(self) -> None:
        """Refuse an initialisation that the kind of recurrent layer has nothing for."""
        fitting = {
            "forget_bias": ("lstm",),
            "chrono": ("lstm", "gru"),
            "identity": ("rnn", "relu_rnn"),
        }
        cells = fitting.get(self.init, (self.cell,))
        if self.cell not in cells:
            problem = f"{self.init!r} does not go with cell={self.cell}"
            known = [name for name, kinds in fitting.items() if self.cell in kinds]
            accepted = f"{' or '.join(['default', *known])}; or cell={' or '.join(cells)}"
            raise ConfigError(type(self).__name__, "init", problem, accepted)


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
