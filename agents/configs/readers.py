"""Settings that the readers of lines share."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default

# Feature maps of the four stages, whether the last two have a residual block, units of the LSTM in
# each direction, its layers.
SIZES = {
    "small": ((16, 32, 48, 64), False, 64, 1),
    "medium": ((16, 32, 64, 96), True, 128, 1),
    "large": ((24, 48, 96, 128), True, 160, 2),
}


@attrs.frozen(kw_only=True)
class ReaderConfig(AgentConfig):
    """Sizes of the encoder, recipe, and decoding."""

    size: Literal["small", "medium", "large"] = setting(
        "small",
        "size of the encoder. small: four convolutions of 16 to 64 feature maps, 64 units in each "
        "direction; medium: six of 16 to 96, 128 units; large: six of 24 to 128, two layers of 160",
    )
    dropout: float = setting(
        0.2, "share of what the LSTM and the read-out read left out, in training", ge=0.0, lt=1.0
    )
    augmentation: float = setting(
        1.0,
        "strength of the distortions of training lines: shear, scale, elastic, stroke width, "
        "contrast; 0: none",
        ge=0.0,
        le=2.0,
    )
    characters: str | None = setting(
        None,
        "characters that are read, in the order of their codes; null: filled in with the task's",
    )
    beam_size: int = setting(
        25, "prefixes kept by the beam search after each column", ge=1, mutable_after_training=True
    )
    language_model: str | None = setting(
        None, "path of a language model of characters for the beam search: an ARPA file, or a "
        "checkpoint of char_lm; "
        "null: none", mutable_after_training=True,
    )  # fmt: skip
    lm_weight: float = setting(
        0.5, "weight of the language model's log probability (α)", ge=0.0,
        mutable_after_training=True,
    )  # fmt: skip
    length_bonus: float = setting(
        0.0, "bonus for each character in the beam search, in nats (β)",
        mutable_after_training=True,
    )  # fmt: skip
    lexicon: str | None = setting(
        None, "path of a file of words, one a line, that the beam search may write; null: any text",
        mutable_after_training=True,
    )  # fmt: skip
    temperature: float = setting(
        1.0,
        "temperature by which log probabilities are divided where it is asked how sure characters "
        "are; --mode calibrate fits it; what is read stays the same",
        gt=0.0, mutable_after_training=True,
    )  # fmt: skip
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 3e-3)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.02)
    muon_momentum: float = with_default("muon_momentum", 0.95)
    weight_decay: float = with_default("weight_decay", 0.01)
    clip_norm: float | None = with_default("clip_norm", 5.0)
    batch_size: int = with_default("batch_size", 32)
    steps: int = with_default("steps", 1_000)
    precision: Literal["fp32", "bf16", "auto"] = with_default("precision", "fp32")
    eval_every: int | None = with_default("eval_every", 250)
    eval_samples: int = with_default("eval_samples", 500)
