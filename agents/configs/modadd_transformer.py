"""Settings of the Transformer that adds modulo p."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, Schedule, setting, with_default


@attrs.frozen(kw_only=True)
class ModaddConfig(AgentConfig):
    """Model sizes and recipe: a quick form of that of Nanda et al. 2023, 2301.05217, section 3.

    The paper's are p = 113, d_model 128, d_ff 512, a learning rate of 1e-3 and 40,000 steps.
    """

    d_model: int = setting(64, "size of the vector of each token", ge=1)
    num_heads: int = setting(
        4, "number of attention heads; each has d_model / num_heads features", ge=1
    )
    d_ff: int = setting(256, "hidden units (ReLU) of the feed-forward block", ge=1)
    learning_rate: float = with_default("learning_rate", 4e-3)
    adam_beta2: float = with_default("adam_beta2", 0.98)
    weight_decay: float = with_default("weight_decay", 1.0)
    schedule: Schedule = with_default("schedule", "constant")
    clip_norm: float | None = with_default("clip_norm", None)
    precision: Literal["fp32", "bf16", "auto"] = with_default("precision", "fp32")
    batch_size: int = with_default("batch_size", 4096)
    steps: int = with_default("steps", 6_000)
    eval_every: int | None = with_default("eval_every", 100)
    save_every: int = with_default("save_every", 1_000)
    histograms_every: int = with_default("histograms_every", 0)
    num_weight_snapshots: int | None = with_default("num_weight_snapshots", 60)
