"""The training loop: a generator that yields a record of every step it took."""

import contextlib
import functools
import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from agents.core.config import AgentConfig
from agents.core.training import devices, parallel
from agents.core.training.optimizer import lr_factor_at
from agents.core.training.state import Cursor
from tasks.core.batch import map_arrays, num_samples, take
from tasks.core.settings import ConfigError, TerrariumError
from tasks.core.task import Task, num_batches
from tasks.prefetch import Prefetcher

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

Loss = Tensor | Mapping[str, Tensor]  # a scalar, or named scalars whose sum it is


class StepRecord(NamedTuple):
    """One step of the optimiser."""

    step: int  # counted from 1
    loss: float  # of the batch, before the step
    grad_norm: float  # L2 norm of all gradients, before clipping
    learning_rate: float  # of Adam, in this step
    samples: int  # in the batch
    parts: Mapping[str, float] = {}  # of the loss, by name, where the agent names them


class DivergedError(TerrariumError):
    """The loss or the gradient is no longer a finite number."""

    exit_code = 76


def total_steps(config: AgentConfig, task: Task) -> int:
    """Return the exact number of steps of a run."""
    if config.epochs is None:
        return config.steps
    return config.epochs * num_batches(task, config.batch_size)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a task's batch with tensors on a device in place of arrays; codes become int64."""

    def to_tensor(array: Any) -> Tensor:
        tensor = torch.as_tensor(array).to(device)
        is_code = not (tensor.is_floating_point() or tensor.is_complex())
        return tensor.long() if is_code and tensor.dtype != torch.bool else tensor

    return map_arrays(batch, to_tensor)


def total_loss(loss: Loss) -> Tensor:
    """Return a scalar loss, or the sum of its named parts."""
    return functools.reduce(torch.add, loss.values()) if isinstance(loss, Mapping) else loss


def named_losses(loss: Loss) -> dict[str, Tensor]:
    """Return the named parts of a loss, without their graph; none where it is a scalar."""
    return {k: v.detach() for k, v in loss.items()} if isinstance(loss, Mapping) else {}


@contextlib.contextmanager
def training_environment(agent: "AgentProtocol") -> Iterator[None]:
    """Use an agent's threads, random number generators and float32 for a block."""
    state = agent.state
    threads = parallel.threads_each(state.threads, agent.num_parts(state.threads))
    with (
        devices.threads(threads),
        devices.seeded_rng(agent.device, agent.config.seed, state.rng_state),
        devices.float32(),
    ):
        yield


@attrs.frozen
class TrainStep:
    """Optimiser steps of an agent, each on the parts of a batch in parallel."""

    agent: "AgentProtocol"
    num_parts: int = attrs.Factory(
        lambda self: self.agent.num_parts(self.agent.state.threads), takes_self=True
    )

    def step(self, batch: Any, number: int, lr_factor: float) -> StepRecord:
        """Take step `number` on a batch of a task, at `lr_factor` times the highest learning rate.

        Raises:
            DivergedError: before the step is taken, so that the parameters are those of the last
                good step.
        """
        agent, config, optimizer = self.agent, self.agent.config, self.agent.state.optimizer
        loss, parts = self._backward(to_device(batch, agent.device))
        norm = get_total_norm([p.grad for p in optimizer.parameters if p.grad is not None])
        learning_rate = config.learning_rate * lr_factor
        record = StepRecord(
            number, loss.item(), norm.item(), learning_rate, num_samples(batch),
            {name: value.item() for name, value in parts.items()},
        )  # fmt: skip
        if not math.isfinite(record.loss) or not math.isfinite(record.grad_norm):
            values = f"loss {record.loss:g}, gradient norm {record.grad_norm:g}"
            values += f", learning rate {learning_rate:g}"
            raise DivergedError(describe_divergence(agent.model, number, values))
        if config.clip_norm is not None and record.grad_norm > config.clip_norm:
            clip_grads_with_norm_(optimizer.parameters, config.clip_norm, norm)
        optimizer.step(lr_factor, self.num_parts)
        return record

    def _backward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, and leave its gradients with the parameters."""
        parameters = self.agent.state.optimizer.parameters
        for parameter in parameters:
            parameter.grad = None
        if self.num_parts == 1:
            with devices.autocast(self.agent.state.precision, self.agent.device):
                loss = self.agent.loss(batch)
                total = total_loss(loss)
            total.backward()  # type: ignore[no-untyped-call]
            return total, named_losses(loss)
        results = parallel.map_threads(self._part_gradients, _split_batch(batch, self.num_parts))
        losses, loss_parts, *gradients = zip(*results, strict=True)
        for parameter, part_gradients in zip(parameters, gradients, strict=True):
            if part_gradients[0] is not None:
                parameter.grad = functools.reduce(torch.add, part_gradients)
        parts = {name: torch.stack([p[name] for p in loss_parts]).sum() for name in loss_parts[0]}
        return torch.stack(losses).sum(), parts

    def _part_gradients(self, part: tuple[Any, float]) -> tuple[Any, ...]:
        """Return loss, named losses and gradients of a part, times its weight in the batch."""
        batch, weight = part
        agent = self.agent
        with devices.autocast(agent.state.precision, agent.device, cache=False):
            loss = agent.loss(batch)
            total = total_loss(loss) * weight
        parameters = agent.state.optimizer.parameters
        named = {name: value * weight for name, value in named_losses(loss).items()}
        return total.detach(), named, *torch.autograd.grad(total, parameters, allow_unused=True)


def _split_batch(batch: Any, num: int) -> list[tuple[Any, float]]:
    """Return parts of a batch, of almost equal size, each with its share of the samples."""
    total = num_samples(batch)
    bounds = [total * number // num for number in range(num + 1)]
    return [(take(batch, a, b), (b - a) / total) for a, b in itertools.pairwise(bounds) if b > a]


def train_steps(
    agent: "AgentProtocol", task: Task, cursor: Cursor
) -> Generator[StepRecord, None, None]:
    """Training loop: take optimiser steps until the run's last, and yield a record of each.

    When a record is yielded, `cursor`, parameters and optimiser state are those after the step, and
    the gradients are still there: a consumer may save, evaluate, advance the cursor's stage, or
    stop. `cursor.unfinished` is `step` until the consumer has handled the record and changes it.

    Raises:
        ConfigError: a pass over the task's training data has no batch.
    """
    config, train_step = agent.config, TrainStep(agent)
    last = total_steps(config, task)
    pass_ = config.batch_size, config.seed, config.prefetch, config.num_workers
    with Prefetcher(task, *pass_) as prefetcher:
        while cursor.step < last:
            stage = cursor.stage
            for batch in prefetcher.batches(cursor.epoch, cursor.start, stage):
                lr_factor = lr_factor_at(config, cursor.step + 1, last)
                cursor.unfinished = "step"
                try:
                    record = train_step.step(batch, cursor.step + 1, lr_factor)
                except DivergedError:
                    cursor.unfinished = ""  # the step was not taken
                    raise
                cursor.step += 1
                cursor.start += 1
                yield record
                if cursor.step >= last:
                    return
                if cursor.stage != stage:
                    break
            else:
                if cursor.start == 0:
                    problem = f"{task.name!r} drew no training batch in epoch {cursor.epoch}"
                    accepted = "a task whose `draw` yields batches"
                    raise ConfigError("task", "", problem, accepted)
                cursor.epoch, cursor.start = cursor.epoch + 1, 0


def describe_divergence(model: nn.Module, step: int, values: str) -> str:
    """Describe a divergence: the step, its values, and the first parameter that is not finite."""
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
        f"diverged at step {step}: {values}; {bad}; the best checkpoint is untouched; "
        "try a lower learning_rate or clip_norm"
    )
