"""Settings of the reader of lines by CTC."""

from typing import Literal

import attrs

from agents.configs.readers import ReaderConfig
from agents.core.config import setting


@attrs.frozen(kw_only=True)
class CtcReaderConfig(ReaderConfig):
    """Sizes and recipe of the reader."""

    shortcut_weight: float = setting(
        0.1,
        "weight of the CTC loss of a second read-out, of the feature maps without the LSTM, in "
        "training; 0: there is none",
        ge=0.0,
    )
    decoder: Literal["greedy", "beam"] = setting(
        "greedy",
        "how columns become a text. greedy: the best path; beam: CTC prefix beam search",
        mutable_after_training=True,
    )
