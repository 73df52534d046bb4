"""Settings of the Transformer adder."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class TransformerConfig(AgentConfig):
    """Model sizes and recipe of the Transformer."""

    d_model: int = setting(
        64, "size of the vector of each character between layers", ge=1, renamed_from="model_size"
    )
    num_layers: int = setting(2, "layers of encoder and decoder each", ge=1)
    num_heads: int = setting(
        4, "number of attention heads; each has d_model / num_heads features", ge=1
    )
    d_ff: int = setting(
        256, "hidden units of the feed-forward block", ge=1, renamed_from="feedforward_size"
    )
    positions: Literal["learned", "sinusoidal", "rotary"] = setting(
        "learned",
        "positional encoding. learned, sinusoidal: added to the embedding; rotary: rotated "
        "queries and keys, so that only distances within a text matter (Su et al. 2021)",
    )
    dropout: float = setting(0.0, "dropout of the outputs of sublayers", ge=0.0, lt=1.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 3e-3)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.02)
    steps: int = with_default("steps", 4_000)
