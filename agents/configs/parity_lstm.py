"""Settings of the parity agent."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, Schedule, setting, with_default


@attrs.frozen(kw_only=True)
class ParityConfig(AgentConfig):
    """Model sizes and recipe of the classifier."""

    hidden_size: int = setting(16, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru", "rnn"] = setting("lstm", "kind of recurrent layer")
    learning_rate: float = with_default("learning_rate", 1e-2)
    schedule: Schedule = with_default("schedule", "constant")
    curriculum_loss_threshold: float | None = with_default("curriculum_loss_threshold", 0.05)
    batch_size: int = with_default("batch_size", 128)
    steps: int = with_default("steps", 2_000)
    eval_samples: int = with_default("eval_samples", 500)
