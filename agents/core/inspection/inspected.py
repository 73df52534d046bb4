"""What inspection needs of an agent: a protocol, so that it does not import the contract."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from agents.core.runs.history import History
    from agents.core.runs.snapshots import Snapshots
    from agents.core.training.state import State
    from tasks.core.task import Split, Task


class Inspected(Protocol):
    """An agent as inspection sees it; see `agents.core.agent.Agent`."""

    name: ClassVar[str]

    @property
    def task(self) -> "Task":
        """The task."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    def model(self) -> nn.Module:
        """The bare module."""

    @property
    def state(self) -> "State":
        """All that learning changes."""

    @property
    def snapshots(self) -> "Snapshots":
        """Copies of the weights through training."""

    @property
    def history(self) -> "History":
        """The records of training."""

    def loss(self, batch: Any) -> Any:
        """Return the loss of a batch of tensors, or its named parts."""

    def predict_arrays(self, batch: Any) -> Any:
        """Return predictions for a batch of arrays."""

    def predict_split(self, split: "Split", num: int) -> tuple[Any, Any]:
        """Return predictions for samples of a split, and their batch."""

    def observe(self, batch: Any) -> Any:
        """Return an `Observation` of a batch."""

    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return all inspections by name."""
