"""Settings of the adder with attention."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class AttentionConfig(AgentConfig):
    """Model sizes and recipe of the adder with attention."""

    hidden_size: int = setting(128, "units of each recurrent layer, both directions together", ge=1)
    num_layers: int = setting(1, "recurrent layers of encoder and decoder", ge=1)
    cell: Literal["lstm", "gru"] = setting("lstm", "kind of recurrent layer")
    bidirectional: bool = setting(
        False, "bidirectional encoder, with half of its units in each direction"
    )
    attention_size: int = setting(64, "hidden units of the attention score", ge=1)
    context: Literal["output", "input"] = setting(
        "output",
        "input of the attention context. output: the head, after the decoder's step (Luong et "
        "al. 2015); input: the decoder, before its step (Bahdanau et al. 2015)",
    )
    dropout: float = setting(0.0, "dropout between recurrent layers", ge=0.0, lt=1.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 2e-2)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.035)
    steps: int = with_default("steps", 4_000)
