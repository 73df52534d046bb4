"""Settings of the reader of lines with attention."""

from typing import Literal

import attrs

from agents.configs.readers import ReaderConfig
from agents.core.config import setting


@attrs.frozen(kw_only=True)
class AttentionReaderConfig(ReaderConfig):
    """Sizes and recipe of the reader."""

    decoder_size: int = setting(128, "units of the LSTM that writes", ge=1)
    attention_size: int = setting(64, "units of the network that scores a column", ge=1)
    ctc_weight: float = setting(
        0.3,
        "weight λ of the CTC loss, to which it falls from 1 in the first transition_steps; that of "
        "the decoder's loss is 1 - λ",
        gt=0.0,
        lt=1.0,
    )
    transition_steps: int = setting(
        500, "steps in which ctc_weight falls and scheduled_sampling rises to its value", ge=1
    )
    label_smoothing: float = setting(
        0.1, "share of a character's probability that is given to all, in training", ge=0.0, lt=1.0
    )
    scheduled_sampling: float = setting(
        0.2,
        "share of characters that the decoder reads as it wrote them, and not as they are right, "
        "after transition_steps; it rises from 0",
        ge=0.0,
        le=1.0,
    )
    decoder: Literal["attention", "greedy", "beam", "joint"] = setting(
        "attention",
        "how a line becomes a text. attention: the likeliest next character; greedy: the best path "
        "of CTC; beam: CTC prefix beam search; joint: its best texts, scored by the attention too",
        mutable_after_training=True,
    )
    joint_weight: float = setting(
        0.5, "weight of the attention's log probability with decoder=joint; the beam's is the rest",
        ge=0.0, le=1.0, mutable_after_training=True,
    )  # fmt: skip
