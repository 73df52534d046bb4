"""Records of optimiser steps, whose numbers stay on the device until they are asked for."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor, nn

from agents.core.training import devices
from tasks.core.settings import TerrariumError

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol
    from agents.core.training.processes import Group
    from agents.core.training.state import Cursor, State

_MAX_UNREAD = 1000  # steps whose numbers are left on an accelerator


class DivergedError(TerrariumError):
    """The loss or the gradient is no longer a finite number."""

    exit_code = 76


class StepRecord:
    """Loss and gradient norm of one optimiser step.

    To read a number from an accelerator is to wait for it. So the numbers are read when one is
    first asked for; those of many steps in one transfer (`UnreadSteps.read`).

    Attributes:
        step: counted from 1.
        learning_rate: of Adam, in this step.
        samples: in the batch.
    """

    def __init__(
        self, step: int, learning_rate: float, samples: int, loss: Tensor, grad_norm: Tensor,
        parts: Mapping[str, Tensor],
    ) -> None:  # fmt: skip
        self.step, self.learning_rate, self.samples = step, learning_rate, samples
        self._names = tuple(parts)
        tensors = loss, grad_norm, *parts.values()
        self._tensors = [each.detach().reshape(()) for each in tensors]
        self._numbers: list[float] | None = None

    @property
    def numbers(self) -> list[float]:
        """Loss, gradient norm, and parts of the loss."""
        if self._numbers is None:
            self._numbers = [tensor.item() for tensor in self._tensors]
        return self._numbers

    def agree(self, loss: float, grad_norm: float, parts: Mapping[str, float]) -> None:
        """Take what the ranks of a group have agreed on in place of this rank's own numbers."""
        self._names, self._numbers = tuple(parts), [loss, grad_norm, *parts.values()]

    @property
    def loss(self) -> float:
        """Loss of the batch, before the step."""
        return self.numbers[0]

    @property
    def grad_norm(self) -> float:
        """L2 norm of all gradients, before clipping."""
        return self.numbers[1]

    @property
    def parts(self) -> dict[str, float]:
        """Parts of the loss by name, where the agent names them."""
        return dict(zip(self._names, self.numbers[2:], strict=True))

    def is_finite_on_device(self) -> Tensor:
        """Return whether loss and gradient norm are finite, as a tensor, without waiting for it."""
        return torch.isfinite(self._tensors[0]) & torch.isfinite(self._tensors[1])


class UnreadSteps:
    """Steps whose numbers may still be on the device, with the cursor after each.

    Args:
        cursor: before the first of them.
        found_inf: of the optimiser's steps, on the device; None: they have been read already.

    Attributes:
        found_inf: the same.
    """

    def __init__(self, cursor: "Cursor", found_inf: Tensor | None) -> None:
        self._last_good, self.found_inf = attrs.evolve(cursor, unfinished=""), found_inf
        self._steps: list[tuple[StepRecord, Cursor]] = []

    @classmethod
    def of(cls, agent: "AgentProtocol", group: "Group") -> "UnreadSteps":
        """Return those of a run: on an accelerator they are read when they are logged.

        That is not so where each is needed at once: by a curriculum, by the other ranks of a group,
        or by an optimiser that cannot skip a step on the device.
        """
        is_needed = agent.config.curriculum_loss_threshold is not None or group.size > 1
        is_possible = devices.is_asynchronous(agent.device) and agent.state.optimizer.can_skip
        defers = is_possible and not is_needed
        return cls(agent.state.cursor, torch.zeros((), device=agent.device) if defers else None)

    def add(self, record: StepRecord, cursor: "Cursor") -> None:
        """Add a step, and the cursor after it, of which a copy is kept."""
        self._steps.append((record, attrs.evolve(cursor, unfinished="")))

    @property
    def is_full(self) -> bool:
        """Whether they should be read before another step is added."""
        return len(self._steps) >= (1 if self.found_inf is None else _MAX_UNREAD)

    def read(self, state: "State") -> Iterator[StepRecord]:
        """Yield all records, read in one transfer, and forget them.

        Raises:
            DivergedError: the loss or gradient of one is not finite. The steps from that one on
                were not taken, and the cursor of `state` goes back to before it.
        """
        _read([record for record, _ in self._steps])
        while self._steps:
            record, cursor = self._steps[0]
            try:
                check_finite(state.model, record, is_last=self.found_inf is None)
            except DivergedError:
                state.cursor, self._steps = self._last_good, []
                raise
            self._last_good = cursor
            del self._steps[0]
            yield record


def _read(records: Sequence[StepRecord]) -> None:
    """Read the numbers of records from the device, all in one transfer."""
    unread = [record for record in records if record._numbers is None]
    if not unread:
        return
    device, dtype = unread[0]._tensors[0].device, torch.float64
    tensors = [tensor.to(device, dtype) for record in unread for tensor in record._tensors]
    numbers = iter(torch.stack(tensors).tolist())
    for record in unread:
        record._numbers = list(itertools.islice(numbers, len(record._tensors)))


def check_finite(model: nn.Module, record: StepRecord, is_last: bool = True) -> None:
    """Raise a DivergedError if the loss or the gradient of a step is no finite number.

    It names the first bad parameter, if the model's gradients are still those of the step.
    """
    if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
        values = f"loss {record.loss:g}, gradient norm {record.grad_norm:g}"
        values += f", learning rate {record.learning_rate:g}"
        raise DivergedError(describe_divergence(model if is_last else None, record.step, values))


def describe_divergence(model: nn.Module | None, step: int, values: str) -> str:
    """Describe a divergence: the step, its values, and the first parameter that is not finite."""
    found = [f"diverged at step {step}: {values}", *([] if model is None else [_first_bad(model)])]
    advice = "the best checkpoint is untouched; try a lower learning_rate or clip_norm"
    return "; ".join([*found, advice])


def _first_bad(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if not (parameter.isfinite().all() and (gradient is None or gradient.isfinite().all())):
            return f"the first bad parameter is {name}"
    return "every parameter and gradient is finite"
