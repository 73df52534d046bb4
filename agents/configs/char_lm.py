"""Settings of the character language model."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class CharLMConfig(AgentConfig):
    """Sizes and recipe of the language model."""

    hidden_size: int = setting(192, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru", "rnn"] = setting("lstm", "kind of recurrent layer")
    encoding: Literal["one_hot", "embedding"] = setting("one_hot", "how characters are presented")
    embedding_size: int = setting(32, "numbers per character of an embedding", ge=1)
    dropout: float = setting(0.0, "after each recurrent layer, in training", ge=0.0, lt=1.0)
    stateful: bool = setting(
        True, "in training, the state after a chunk goes on into the chunk after it"
    )
    state_reset_prob: float = setting(
        0.05,
        "probability of resetting the hidden state at a chunk boundary, in training",
        ge=0.0,
        le=1.0,
        renamed_from="restart",
    )
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 6e-2)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.05)
    batch_size: int = setting(32, "streams of text that are read beside each other", ge=1)
    steps: int = with_default("steps", 4_000)
    threads: int | None = with_default("threads", 1)
    eval_samples: int = with_default("eval_samples", 200)
    sample_length: int = setting(
        200, "characters of a continuation", ge=1, mutable_after_training=True
    )
    temperature: float = setting(
        0.5, "heat of a continuation: logits are divided by it; 0: always the likeliest", ge=0.0,
        mutable_after_training=True,
    )  # fmt: skip
    top_k: int | None = setting(
        None, "likeliest characters that a continuation chooses from; null: all", ge=1,
        mutable_after_training=True,
    )  # fmt: skip
