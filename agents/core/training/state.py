"""The registered state of an agent: what a checkpoint holds, and nothing else."""

from collections.abc import Mapping
from typing import Any, get_origin

import attrs
from torch import Tensor, nn

from agents.core import earlier_names
from agents.core.config import AgentConfig
from agents.core.runs.checkpoint import Checkpoint, CheckpointError, check_state_dict
from agents.core.runs.history import History
from agents.core.training.optimizer import AnyOptimizer
from agents.core.training.step_record import StepRecord
from tasks.core.settings import fits

_PLAIN = ("seconds", "threads", "precision", "stopped_early")
_EARLIER_KEYS = {"within": "unfinished", "stale": "evals_since_best"}  # up to 0.4.1


@attrs.define
class Cursor:
    """Position of a run in its data: the next batch is number `start` of `epoch`, of a stage."""

    step: int = 0  # steps taken
    epoch: int = 0
    start: int = 0
    stage: int = 0  # of the task's training data, from the easiest on
    unfinished: str = ""  # phase that was begun and not ended: step, evaluation or saving


@attrs.define
class RunningSums:
    """Sums over the steps since the last record of the history, from which its means are taken."""

    loss: float = 0.0
    highest_loss: float = 0.0  # of a single step
    grad_norm: float = 0.0
    steps: int = 0
    samples: int = 0
    parts: dict[str, float] = attrs.Factory(dict)  # of the loss, by name
    seconds: float = 0.0  # spent learning, evaluations left out

    def add(self, record: StepRecord) -> None:
        """Add a step."""
        self.loss += record.loss
        self.highest_loss = max(self.highest_loss, record.loss)
        self.grad_norm += record.grad_norm
        self.steps += 1
        self.samples += record.samples
        for name, value in record.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value


@attrs.define
class CurriculumTracker:
    """Mean training loss over a window of steps; decides when the curriculum advances."""

    loss: float = 0.0  # sum over the window so far
    steps: int = 0

    def should_advance(self, loss: float, config: AgentConfig) -> bool:
        """Add the loss of a step; tell whether a window is full and its mean loss low enough."""
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
    evals_since_best: int = 0


def _from_checkpoint(cls: type[Any], values: Any) -> Any:
    """Return an object of its fields in a checkpoint, which may have their earlier names.

    Raises:
        CheckpointError: it has another field, or a value of another kind.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"the checkpoint's {cls.__name__} is {values!r:.60}, and no mapping")
    named = {_EARLIER_KEYS.get(str(key), str(key)): value for key, value in values.items()}
    own = attrs.fields_dict(cls)
    for name, value in named.items():
        if name not in own or not _fits(value, own[name].type):
            problem = f"{cls.__name__} has {name} = {value!r:.60}"
            raise CheckpointError(f"the checkpoint's {problem}, which it cannot have")
    return cls(**named)


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(fits(number, float) for number in value.values())
    return fits(value, kind)


def _resumable_phase(cursor: Cursor) -> str:
    """Return the phase that whoever loads a checkpoint has to finish: not the saving of it."""
    return "" if cursor.unfinished == "saving" else cursor.unfinished


@attrs.define
class State:
    """Everything that learning changes. Equal states continue to equal bits."""

    model: nn.Module  # bare: the names of its tensors contain no wrapper
    optimizer: AnyOptimizer
    rng_state: dict[str, Tensor]  # of the generators that dropout draws from, by kind of device
    precision: str  # fp32 or bf16
    threads: int  # of the CPU: the last bits of a sum depend on it
    cursor: Cursor = attrs.Factory(Cursor)
    sums: RunningSums = attrs.Factory(RunningSums)
    curriculum: CurriculumTracker = attrs.Factory(CurriculumTracker)
    best: Best = attrs.Factory(Best)
    history: History = attrs.Factory(History)
    hidden_state: dict[str, Tensor] = attrs.Factory(dict)  # from one training batch to the next
    diagnostics_step: int = 0  # step of the last diagnostics
    seconds: float = 0.0  # spent learning until the last record, evaluations left out
    stopped_early: bool = False
    carried = earlier_names.attribute("carried", "hidden_state")

    def reset_early_stopping(self) -> None:
        """Reset early stopping, so that a run that stopped early continues."""
        if self.stopped_early:
            self.stopped_early, self.best.evals_since_best = False, 0

    def to_checkpoint(self, identity: Mapping[str, Any]) -> Checkpoint:
        """Return a checkpoint of this state and of what the agent was made from."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer/{name}": value for name, value in self.optimizer.tensors().items()}
        tensors |= {f"random/{kind}": value for kind, value in self.rng_state.items()}
        tensors |= {f"carried/{name}": value for name, value in self.hidden_state.items()}
        values = {
            **identity,
            "cursor": attrs.asdict(self.cursor) | {"unfinished": _resumable_phase(self.cursor)},
            "window": attrs.asdict(self.sums),
            "climb": attrs.asdict(self.curriculum),
            "best": attrs.asdict(self.best),
            "measured": self.diagnostics_step,
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return Checkpoint(values, tensors, self.history)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint; a missing or extra name or another shape changes nothing.

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
        check_state_dict("model", groups["model"], self.model.state_dict())
        self.optimizer.check(groups["optimizer"])
        self.model.load_state_dict(groups["model"])
        self.optimizer.load(groups["optimizer"])
        self.rng_state = groups["random"]
        device = next(self.model.parameters()).device
        self.hidden_state = {name: tensor.to(device) for name, tensor in groups["carried"].items()}
        values = checkpoint.values
        self.cursor = _from_checkpoint(Cursor, values["cursor"])
        self.sums = _from_checkpoint(RunningSums, values["window"])
        climb = values.get("climb", {})  # absent before 0.2.0
        self.curriculum = _from_checkpoint(CurriculumTracker, climb)
        self.best = _from_checkpoint(Best, values["best"])
        self.diagnostics_step = values.get("measured", 0)  # absent before 0.3.0
        self.history = History()
        self.history.extend(checkpoint.history)  # a copy: two agents may load one checkpoint
        for name in _PLAIN:
            setattr(self, name, values[name])
