"""Settings of the adder with attention."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class AttentionConfig(AgentConfig):
    """Sizes and recipe of the adder with attention."""

    hidden_size: int = setting(128, "units of each recurrent layer, both directions together", ge=1)
    num_layers: int = setting(1, "recurrent layers of encoder and decoder", ge=1)
    cell: Literal["lstm", "gru"] = setting("lstm", "kind of recurrent layer")
    bidirectional: bool = setting(
        False, "the encoder reads in both directions, half of its units in each"
    )
    attention_size: int = setting(64, "units of the network that scores a place", ge=1)
    context: Literal["output", "input"] = setting(
        "output",
        "where what is seen goes. output: into the read-out, after the decoder's step (Luong et "
        "al. 2015); input: into the decoder, before it (Bahdanau et al. 2015)",
    )
    dropout: float = setting(0.0, "between recurrent layers, in training", ge=0.0, lt=1.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 2e-2)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.035)
    steps: int = with_default("steps", 4_000)
