"""The training loop: a generator that yields a record of every step it took."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from agents.core import devices
from agents.core.config import AgentConfig
from agents.core.optim import Optimizer, rate
from tasks.core.settings import TerrariumError
from tasks.core.task import Task, num_batches


class StepRecord(NamedTuple):
    """One step of the optimiser."""

    step: int  # counted from 1
    loss: float  # of the batch, before the step
    grad_norm: float  # L2 norm of all gradients, before clipping
    learning_rate: float  # of Adam, in this step
    samples: int  # in the batch


@attrs.define
class Cursor:
    """Where a run stands in its data: the next batch is number `start` of `epoch`, of a stage."""

    step: int = 0  # steps taken
    epoch: int = 0
    start: int = 0
    stage: int = 0  # of the task's training data, from the easiest on


class DivergedError(TerrariumError):
    """The loss or the gradient is no longer a finite number."""

    exit_code = 76


def total_steps(config: AgentConfig, task: Task) -> int:
    """Return the exact number of steps of a run."""
    if config.epochs is None:
        return config.steps
    return config.epochs * num_batches(task, config.batch_size)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a task's batch with tensors in place of arrays."""
    return type(batch)(*(torch.as_tensor(array).to(device) for array in batch))


def train_steps(
    model: nn.Module,
    loss_of: Callable[[Any], Tensor],
    task: Task,
    config: AgentConfig,
    optimizer: Optimizer,
    cursor: Cursor,
    device: torch.device,
    precision: str,
) -> Iterator[StepRecord]:
    """Take one optimiser step after the other until the run's last, and yield a record of each.

    When a record is out, `cursor`, the parameters and the optimiser's state all stand after that
    step, and the gradients still stand: a consumer may save, evaluate, raise the cursor's stage, or
    walk away.

    Raises:
        DivergedError: before the step is taken, so that the parameters are those of the last good
            step.
    """
    parameters = optimizer.parameters
    last = total_steps(config, task)
    while cursor.step < last:
        stage = cursor.stage
        for batch in task.batches(
            "train", config.batch_size, config.seed, cursor.epoch, cursor.start, stage
        ):
            with devices.autocast(precision, device):
                loss = loss_of(to_device(batch, device))
            for parameter in parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
            share = rate(config, cursor.step + 1, last)
            record = StepRecord(
                cursor.step + 1,
                loss.item(),
                norm.item(),
                config.learning_rate * share,
                len(batch[0]),
            )
            if not math.isfinite(record.loss) or not math.isfinite(record.grad_norm):
                raise DivergedError(describe_divergence(model, record))
            if config.clip_norm is not None and record.grad_norm > config.clip_norm:
                clip_grads_with_norm_(parameters, config.clip_norm, norm)
            optimizer.step(share)
            cursor.step += 1
            cursor.start += 1
            yield record
            if cursor.step >= last:
                return
            if cursor.stage != stage:
                break
        else:
            cursor.epoch, cursor.start = cursor.epoch + 1, 0


def describe_divergence(model: nn.Module, record: StepRecord, seen: str = "") -> str:
    """Say at which step, with which learning rate, and which parameter was the first to go bad."""
    bad = next(
        (
            f"the first bad parameter is {name}"
            for name, parameter in model.named_parameters()
            if not (
                parameter.isfinite().all()
                and (parameter.grad is None or parameter.grad.isfinite().all())
            )
        ),
        "every parameter and gradient is finite",
    )
    return (
        f"diverged at step {record.step}: loss {record.loss:g}, gradient norm "
        f"{record.grad_norm:g}, learning rate {record.learning_rate:g}{seen and ', ' + seen}; "
        f"{bad}; the best checkpoint is untouched; try a lower learning_rate or clip_norm"
    )
