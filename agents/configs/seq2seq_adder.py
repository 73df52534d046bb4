"""Settings of the sequence-to-sequence adder."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, Schedule, setting, with_default


@attrs.frozen(kw_only=True)
class AdderConfig(AgentConfig):
    """Model sizes and recipe of the adder."""

    hidden_size: int = setting(128, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "recurrent layers of encoder and decoder", ge=1)
    cell: Literal["lstm", "gru", "rnn"] = setting("lstm", "kind of recurrent layer")
    encoding: Literal["one_hot", "embedding"] = setting(
        "one_hot", "encoding of characters as input"
    )
    embedding_size: int = setting(16, "numbers per character of an embedding", ge=1)
    decoder: Literal["states", "repeat"] = setting(
        "states",
        "states: starts from the encoder's states and reads what it has written; "
        "repeat: reads the encoder's last output at every position, as Keras' example does",
    )
    dropout: float = setting(0.0, "dropout between recurrent layers", ge=0.0, lt=1.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 2e-2)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.07, 0.035)
    schedule: Schedule = with_default("schedule", "warm_restarts", "one_cycle")
    batch_size: int = with_default("batch_size", 256)
    steps: int = with_default("steps", 7_000, 18_000)
    eval_every: int | None = with_default("eval_every", 500)
    lr_cycles: int = with_default("lr_cycles", 2, 4)  # of 1,000 and 6,000 steps
    lr_cycle_growth: float = with_default("lr_cycle_growth", 6.0, 2.0)
    target_score: float | None = with_default("target_score", 0.995, None)
