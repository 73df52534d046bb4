"""The training loop: a generator that yields a record of every step it took."""

import contextlib
import functools
import itertools
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from agents.core.config import AgentConfig
from agents.core.training import devices, parallel
from agents.core.training.optimizer import lr_factor_at
from agents.core.training.processes import SINGLE, Group, rank_key, seed_of
from agents.core.training.signals import SIGNALS, StopRequest
from agents.core.training.state import Cursor
from agents.core.training.step_record import DivergedError, StepRecord, check_finite
from tasks.core.batch import map_arrays, num_samples, take
from tasks.core.settings import ConfigError
from tasks.core.task import Task, num_batches
from tasks.prefetch import Prefetcher

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

Loss = Tensor | Mapping[str, Tensor]  # a scalar, or named scalars whose sum it is


def total_steps(config: AgentConfig, task: Task) -> int:
    """Return the exact number of steps of a run."""
    if config.epochs is None:
        return config.steps
    return config.epochs * num_batches(task, config.batch_size)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a task's batch with tensors on a device in place of arrays; codes become int64."""

    def to_tensor(array: Any) -> Tensor:
        tensor = torch.as_tensor(array).to(device, non_blocking=device.type == "cuda")
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
def training_environment(agent: "AgentProtocol", group: Group = SINGLE) -> Iterator[None]:
    """Use an agent's threads, random number generators and float32 for a block.

    A rank of a group draws its own random numbers: those of its state, or of a seed of its own.
    """
    state, rank = agent.state, group.rank
    keys = {kind: rank_key(kind, rank) for kind in devices.generators(agent.device)}
    states = {k: state.rng_state[key] for k, key in keys.items() if key in state.rng_state}
    seed = seed_of(agent.config.seed, rank, state.cursor.step)
    threads = parallel.threads_each(state.threads, parts_of_process(agent, group))
    with (
        devices.threads(threads),
        devices.seeded_rng(agent.device, seed, states),
        devices.float32(),
    ):
        yield


def parts_of_process(agent: "AgentProtocol", group: Group) -> int:
    """Return the number of parts of a batch that one process computes in parallel."""
    return agent.num_parts(agent.state.threads) if group.size == 1 else 1


@attrs.frozen
class TrainStep:
    """Optimiser steps of an agent, each on the parts of a batch in parallel.

    Attributes:
        agent: which learns.
        num_parts: parts of a batch that this process computes in parallel.
        group: the ranks that share each batch.
        network: the agent's loss, wrapped for the group; None: it is a single process.
        request: the signal that this rank received, if any, is told to the others in each step.
        found_inf: None: each step waits for its loss, and is not taken if that is not finite. Else
            a tensor () on the device that becomes 1.0 with the first step whose loss or gradient is
            not finite: neither that step nor a later one changes the parameters, and nothing waits.
    """

    agent: "AgentProtocol"
    num_parts: int = attrs.Factory(
        lambda self: self.agent.num_parts(self.agent.state.threads), takes_self=True
    )
    group: Group = SINGLE
    network: Any = None
    request: StopRequest = attrs.Factory(StopRequest)
    found_inf: Tensor | None = None

    def step(self, batch: Any, number: int, lr_factor: float) -> StepRecord:
        """Take step `number` on a batch of a task, at `lr_factor` times the highest learning rate.

        Raises:
            DivergedError: before the step is taken, so that the parameters are those of the last
                good step. With `found_inf` it is for the caller to look at the record.
        """
        agent, config, optimizer = self.agent, self.agent.config, self.agent.state.optimizer
        loss, parts = self._backward(batch)
        norm = get_total_norm([p.grad for p in optimizer.parameters if p.grad is not None])
        rate, num = config.learning_rate * lr_factor, num_samples(batch)
        record = StepRecord(number, rate, num, loss, norm, parts)
        if self.found_inf is not None:
            self.found_inf.clamp_(min=1 - record.is_finite_on_device().float())
        else:
            if self.group.size > 1:
                self._agree(record)
            check_finite(agent.model, record)
        is_long = self.found_inf is not None or record.grad_norm > (config.clip_norm or math.inf)
        if config.clip_norm is not None and is_long:
            clip_grads_with_norm_(optimizer.parameters, config.clip_norm, norm)
        optimizer.step(lr_factor, self.num_parts, self.found_inf)
        return record

    def _backward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, and leave its gradients with the parameters."""
        for parameter in self.agent.state.optimizer.parameters:
            parameter.grad = None
        if self.network is None and self.agent.config.gradient_accumulation_steps == 1:
            return self._micro_backward(to_device(batch, self.agent.device), 1.0)
        return self._accumulate(batch)

    def _accumulate(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Go through the micro-batches of this rank's share; its gradients are added up.

        Each has its samples' rows of the hidden state that is passed from batch to batch; where
        there are fewer rows than samples, none.
        """
        state, total = self.agent.state, num_samples(batch)
        parallel.check_batch_norm(self.agent.model, total, self.group)
        num, rows = self.agent.config.gradient_accumulation_steps, state.hidden_state
        if any(len(tensor) < total for tensor in rows.values()):
            rows = {}
        spans = self.group.spans(total, num)
        results, hidden = [], []
        for number, (begin, end) in enumerate(spans, start=1):
            micro = to_device(take(batch, begin, end), self.agent.device) if end else None
            state.hidden_state = {name: tensor[begin:end] for name, tensor in rows.items()}
            with parallel.synchronized(self.network, number == len(spans)):
                results.append(self._micro_backward(micro, (end - begin) / total))
            hidden.append(state.hidden_state)
        state.hidden_state = {n: torch.cat([part[n] for part in hidden]) for n in hidden[0]}
        losses, parts = zip(*results, strict=True)
        return torch.stack(losses).sum(), _summed(parts)

    def _micro_backward(self, batch: Any, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of a micro-batch, times its weight in the batch, to the parameters'."""
        if self.network is not None:
            loss, named = self.network(batch, self._loss)
            (loss * (weight * self.group.size)).backward()  # the ranks' gradients are averaged
        elif self.num_parts == 1:
            loss, named = self._loss(batch)
            (loss if weight == 1 else loss * weight).backward()  # type: ignore[no-untyped-call]
        else:
            return self._parts_backward(batch, weight)
        if weight == 1:
            return loss, named
        return loss.detach() * weight, {name: value * weight for name, value in named.items()}

    def _loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and its named parts without their graph."""
        with devices.autocast(self.agent.state.precision, self.agent.device):
            loss = self.agent.loss(batch)
            return total_loss(loss), named_losses(loss)

    def _parts_backward(self, batch: Any, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of a batch, whose parts are computed in parallel."""
        parts = [(part, share * weight) for part, share in _split_batch(batch, self.num_parts)]
        results = parallel.map_threads(self._part_gradients, parts)
        losses, loss_parts, *gradients = zip(*results, strict=True)
        parameters = self.agent.state.optimizer.parameters
        for parameter, part_gradients in zip(parameters, gradients, strict=True):
            if part_gradients[0] is not None:
                gradient = functools.reduce(torch.add, part_gradients)
                earlier = parameter.grad
                parameter.grad = gradient if earlier is None else earlier + gradient
        return torch.stack(losses).sum(), _summed(loss_parts)

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

    def _agree(self, record: StepRecord) -> None:
        """Let a record be that of the whole batch; agree on a signal; gather the hidden state.

        The gradient's norm is that of rank 0, so that no last bit lets ranks decide differently.
        """
        group, state = self.group, self.agent.state
        values = {
            "loss": record.loss,
            "norm": record.grad_norm if group.is_main else 0.0,
            "hidden": float(bool(state.hidden_state)),
            **{signum.name: float(self.request.received == signum) for signum in SIGNALS},
        }
        fixed = len(values)
        values |= record.parts
        if record.samples >= group.size:
            sums = dict(zip(values, group.sum(list(values.values())), strict=True))
        else:  # a rank without samples does not know the names of the parts
            sums = _summed_values(group.gather(values))
        self.request.agree(signum for signum in SIGNALS if sums[signum.name])
        if sums["hidden"]:
            self._gather_hidden_state()
        parts = dict(itertools.islice(sums.items(), fixed, None))
        record.agree(sums["loss"], sums["norm"], parts)

    def _gather_hidden_state(self) -> None:
        """Put the rows of all ranks together, as a single process has them."""
        state, device = self.agent.state, self.agent.device
        types = {name: tensor.dtype for name, tensor in state.hidden_state.items()}
        own = {n: tensor.float().cpu().numpy() for n, tensor in state.hidden_state.items()}
        rows = [each for each in self.group.gather(own) if each]
        state.hidden_state = {
            name: torch.cat([torch.as_tensor(each[name]) for each in rows]).to(
                device, types.get(name, torch.float32)
            )
            for name in rows[0]
        }


def _summed(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sum of each named value."""
    return {name: torch.stack([each[name] for each in parts]).sum() for name in parts[0]}


def _summed_values(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of each named number, in the order of the first mapping."""
    return {name: sum(each.get(name, 0.0) for each in mappings) for name in mappings[0]}


def _split_batch(batch: Any, num: int) -> list[tuple[Any, float]]:
    """Return parts of a batch, of almost equal size, each with its share of the samples."""
    total = num_samples(batch)
    bounds = [total * number // num for number in range(num + 1)]
    return [(take(batch, a, b), (b - a) / total) for a, b in itertools.pairwise(bounds) if b > a]


def train_steps(
    agent: "AgentProtocol", task: Task, cursor: Cursor, train_step: TrainStep | None = None
) -> Generator[StepRecord, None, None]:
    """Training loop: take optimiser steps until the run's last, and yield a record of each.

    When a record is yielded, `cursor`, parameters and optimiser state are those after the step, and
    the gradients are still there: a consumer may save, evaluate, advance the cursor's stage, or
    stop. `cursor.unfinished` is `step` until the consumer has handled the record and changes it.

    Raises:
        ConfigError: a pass over the task's training data has no batch.
    """
    config, train_step = agent.config, train_step or TrainStep(agent)
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
