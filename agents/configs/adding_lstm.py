"""Settings of the adding-problem agent."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, ConfigError, Schedule, setting, with_default


@attrs.frozen(kw_only=True)
class AddingConfig(AgentConfig):
    """Model sizes and recipe of the adding-problem agent."""

    hidden_size: int = setting(100, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "number of recurrent layers", ge=1)
    cell: Literal["lstm", "gru", "rnn", "relu_rnn"] = setting(
        "lstm", "kind of recurrent layer; rnn: tanh; relu_rnn with init=identity: the IRNN"
    )
    init: Literal["default", "forget_bias", "chrono", "identity"] = setting(
        "forget_bias",
        "initialisation of recurrent layers. default: torch's; forget_bias: forget gates open "
        "at first; chrono: memory over up to chrono_length steps; identity: W_hh keeps the "
        "state as it is",
    )
    bptt_steps: int | None = setting(
        None,
        "truncated backpropagation through time: number of last steps with gradients; null: all",
        ge=1,
        renamed_from="backward_steps",
    )
    forget_bias: float = setting(3.0, "bias of the forget gates, with init=forget_bias")
    chrono_length: int = setting(150, "longest memory with init=chrono, in steps", ge=3)
    identity_scale: float = setting(
        1.0, "factor of the identity in W_hh, with init=identity", gt=0.0
    )
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 5e-3)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.05)
    schedule: Schedule = with_default("schedule", "cosine")
    curriculum_loss_threshold: float | None = with_default("curriculum_loss_threshold", 0.01)
    clip_norm: float | None = with_default("clip_norm", 0.3)
    batch_size: int = with_default("batch_size", 20)
    steps: int = with_default("steps", 1_000)
    precision: Literal["fp32", "bf16", "auto"] = with_default("precision", "fp32")
    threads: int | None = with_default("threads", 1)
    eval_every: int | None = with_default("eval_every", 100)
    eval_samples: int = with_default("eval_samples", 500)

    def __attrs_post_init__(self) -> None:
        """Check that the initialisation applies to the kind of recurrent layer."""
        cells_by_init = {
            "forget_bias": ("lstm",),
            "chrono": ("lstm", "gru"),
            "identity": ("rnn", "relu_rnn"),
        }
        cells = cells_by_init.get(self.init, (self.cell,))
        if self.cell not in cells:
            problem = f"{self.init!r} cannot be combined with cell={self.cell}"
            inits = [name for name, kinds in cells_by_init.items() if self.cell in kinds]
            accepted = f"{' or '.join(['default', *inits])}; or cell={' or '.join(cells)}"
            raise ConfigError(type(self).__name__, "init", problem, accepted)
