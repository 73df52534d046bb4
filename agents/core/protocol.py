"""Protocol of agents: what training and inspection use, so that they do not import the class."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from agents.core.config import AgentConfig
    from agents.core.runs.checkpoint import Checkpoint
    from agents.core.runs.history import History
    from agents.core.runs.snapshots import Snapshots
    from agents.core.training.state import State
    from tasks.core.task import Split, Task


class AgentProtocol(Protocol):
    """An agent; see `agents.core.agent.Agent`."""

    name: ClassVar[str]
    network: Any
    snapshots: "Snapshots"  # copies of the weights through training
    in_memory_snapshots: "Snapshots"  # those of training without a run folder

    @property
    def task(self) -> "Task":
        """The task."""

    @property
    def config(self) -> "AgentConfig":
        """The settings."""

    @property
    def device(self) -> torch.device:
        """The device of the model."""

    @property
    def model(self) -> nn.Module:
        """The bare module."""

    @property
    def state(self) -> "State":
        """All that training changes."""

    @property
    def history(self) -> "History":
        """The records of training."""

    def num_parts(self, threads: int) -> int:
        """Return the number of parts of a batch that are computed in parallel."""

    def weights_from(self, checkpoint: "Checkpoint") -> Mapping[str, Tensor]:
        """Return another run's weights by the names of this model."""

    def checkpoint(self) -> "Checkpoint":
        """Return a checkpoint of the state."""

    def identity(self) -> dict[str, Any]:
        """Return names and settings of agent and task, as plain values."""

    def loss(self, batch: Any) -> Any:
        """Return the loss of a batch of tensors, or its named parts."""

    def constant_loss(self, batch: Any) -> float | None:
        """Return the loss of the best constant answer to a batch, if the agent knows it."""

    def mean_loss(self, batch: Any) -> float:
        """Return the mean loss of a batch of arrays in evaluation mode."""

    def predict_arrays(self, batch: Any) -> Any:
        """Return predictions for a batch of arrays."""

    def predict_split(self, split: "Split", num: int) -> tuple[Any, Any]:
        """Return predictions for samples of a split, and their batch."""

    def observe(self, batch: Any) -> Any:
        """Return an `Observation` of a batch."""

    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return all views by name."""
