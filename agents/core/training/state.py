"""The registered state of an agent: what a checkpoint holds, and nothing else."""

from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from agents.core.config import AgentConfig
from agents.core.runs.checkpoint import Checkpoint, CheckpointError, demand_fit
from agents.core.runs.history import History
from agents.core.training.loop import Cursor
from agents.core.training.optimizer import AnyOptimizer

_PLAIN = ("seconds", "threads", "precision", "stopped_early", "measured")


@attrs.define
class Window:
    """Sums since the last record of the history."""

    loss: float = 0.0
    highest_loss: float = 0.0  # of a single step
    grad_norm: float = 0.0
    steps: int = 0
    samples: int = 0
    parts: dict[str, float] = attrs.Factory(dict)  # of the loss, by name
    seconds: float = 0.0  # spent learning, evaluations left out


@attrs.define
class Climb:
    """Sums towards the next look at whether a task's harder stage can begin."""

    loss: float = 0.0
    steps: int = 0

    def rises(self, loss: float, config: AgentConfig) -> bool:
        """Take the loss of a step; tell whether it is time for a look, and the mean low enough."""
        self.loss += loss
        self.steps += 1
        if config.curriculum_loss_threshold is None or self.steps < config.curriculum_window:
            return False
        mean, self.loss, self.steps = self.loss / self.steps, 0.0, 0
        return mean < config.curriculum_loss_threshold


@attrs.define
class Best:
    """The best evaluation so far: by the task's score, and by the loss among equal scores."""

    score: float | None = None
    loss: float = 0.0
    step: int = 0
    stale: int = 0  # evaluations since then


def _to_end(cursor: Cursor) -> str:
    """Return what whoever loads a checkpoint has to end: not the saving of it."""
    return "" if cursor.within == "saving" else cursor.within


@attrs.define
class State:
    """Everything that learning changes. Equal states go on to equal bits."""

    model: nn.Module  # bare: no wrapper ever stands in its names
    optimizer: AnyOptimizer
    random: dict[str, Tensor]  # of the generators that dropout draws from, by kind of device
    precision: str  # fp32 or bf16
    threads: int  # of the CPU: the last bits of a sum depend on it
    cursor: Cursor = attrs.Factory(Cursor)
    window: Window = attrs.Factory(Window)
    climb: Climb = attrs.Factory(Climb)
    best: Best = attrs.Factory(Best)
    history: History = attrs.Factory(History)
    carried: dict[str, Tensor] = attrs.Factory(dict)  # by a training batch into the next, by name
    measured: int = 0  # step of the last measurement of vitals
    seconds: float = 0.0  # spent learning until the last record, evaluations left out
    stopped_early: bool = False

    def go_on(self) -> None:
        """Forget that learning stopped early, and begin to wait for a better score anew."""
        if self.stopped_early:
            self.stopped_early, self.best.stale = False, 0

    def to_checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """Return a checkpoint of this state and of what the agent was made from."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer/{name}": value for name, value in self.optimizer.tensors().items()}
        tensors |= {f"random/{kind}": value for kind, value in self.random.items()}
        tensors |= {f"carried/{name}": value for name, value in self.carried.items()}
        values = {
            **identity,
            "cursor": attrs.asdict(self.cursor) | {"within": _to_end(self.cursor)},
            "window": attrs.asdict(self.window),
            "climb": attrs.asdict(self.climb),
            "best": attrs.asdict(self.best),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return Checkpoint(values, tensors, self.history)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint; a missing or extra name or another shape changes nothing.

        Raises:
            CheckpointError: names what does not fit.
        """
        groups: dict[str, dict[str, Tensor]] = {
            kind: {} for kind in ("model", "optimizer", "random", "carried")
        }
        for name, tensor in checkpoint.tensors.items():
            group, _, rest = name.partition("/")
            if group not in groups:
                raise CheckpointError(f"the checkpoint has a tensor {name!r} that no agent has")
            groups[group][rest] = tensor
        demand_fit("model", groups["model"], self.model.state_dict())
        self.optimizer.fits(groups["optimizer"])
        self.model.load_state_dict(groups["model"])
        self.optimizer.load(groups["optimizer"])
        self.random = groups["random"]
        device = next(self.model.parameters()).device
        self.carried = {name: tensor.to(device) for name, tensor in groups["carried"].items()}
        values = checkpoint.values
        self.cursor, self.window = Cursor(**values["cursor"]), Window(**values["window"])
        self.climb = Climb(**values.get("climb", {}))  # absent before 0.2.0
        self.best, self.history = Best(**values["best"]), History()
        self.history.extend(checkpoint.history)  # a copy: two agents may go on from one checkpoint
        for name in _PLAIN:  # `measured` is absent before 0.3.0
            setattr(self, name, values.get(name, 0) if name == "measured" else values[name])
