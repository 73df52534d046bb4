"""Settings of the character language model."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default


@attrs.frozen(kw_only=True)
class CharLMConfig(AgentConfig):
    """Model sizes and recipe of the language model."""

    hidden_size: int = setting(192, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru", "rnn"] = setting("lstm", "kind of recurrent layer")
    encoding: Literal["one_hot", "embedding"] = setting(
        "one_hot", "encoding of characters as input"
    )
    embedding_size: int = setting(32, "numbers per character of an embedding", ge=1)
    dropout: float = setting(0.0, "dropout after each recurrent layer", ge=0.0, lt=1.0)
    stateful: bool = setting(
        True, "in training, the hidden state is passed from a chunk to the next"
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
    batch_size: int = setting(32, "streams of text that are read in parallel", ge=1)
    steps: int = with_default("steps", 4_000)
    threads: int | None = with_default("threads", 1)
    eval_samples: int = with_default("eval_samples", 200)
    sample_length: int = setting(
        200, "characters of a sampled continuation", ge=1, mutable_after_training=True
    )
    temperature: float = setting(
        0.5, "sampling temperature: divides the logits; 0: the likeliest character", ge=0.0,
        mutable_after_training=True,
    )  # fmt: skip
    top_k: int | None = setting(
        None, "number of likeliest characters to sample from; null: all", ge=1,
        mutable_after_training=True,
    )  # fmt: skip
