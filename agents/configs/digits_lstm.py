"""Settings of the recurrent digit classifier."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class DigitsConfig(AgentConfig):
    """Model sizes and recipe of the classifier."""

    hidden_size: int = setting(128, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru"] = setting("lstm", "kind of recurrent layer")
    dropout: float = setting(0.5, "dropout after each recurrent layer", ge=0.0, lt=1.0)
    learning_rate: float = with_default("learning_rate", 5e-3)
    weight_decay: float = with_default("weight_decay", 0.3)
    batch_size: int = with_default("batch_size", 64)
    steps: int = with_default("steps", 1_500)
