"""Weight snapshots: copies of a model's weights through training."""

import abc
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import final

import attrs
from torch import Tensor, nn

from agents.core.runs.checkpoint import (
    Checkpoint,
    CorruptCheckpointError,
    atomic_write,
    read,
    step_path,
    step_paths,
)
from tasks.core.settings import ConfigError

FOLDER = "progression"  # within a run folder


def snapshot_steps(total: int, num: int) -> tuple[int, ...]:
    """Return at most `num` steps from 0 to `total`, dense where weights change most: early.

    Steps are cubically spaced (dense early) and depend only on `total` and `num`; none if `num` is
    0.

    >>> snapshot_steps(1000, 6)
    (0, 8, 64, 216, 512, 1000)
    """
    return tuple(sorted({round(total * (i / max(num - 1, 1)) ** 3) for i in range(num)}))


class Snapshots(abc.ABC):
    """The states of one model by step: parameters and buffers."""

    @abc.abstractmethod
    def steps(self) -> list[int]:
        """Return the steps of the snapshots, in order."""

    @abc.abstractmethod
    def state(self, step: int) -> dict[str, Tensor]:
        """Return the state of a step.

        Raises:
            TerrariumError: there is none, or it is corrupt.
        """

    @abc.abstractmethod
    def stamps(self) -> dict[int, tuple[int, ...]]:
        """Return of each step, in order, what changes when its snapshot is written again."""

    @abc.abstractmethod
    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step, in order; `warn` is called for each that cannot be read."""

    @abc.abstractmethod
    def save(self, step: int, model: nn.Module) -> None:
        """Save a copy of a model's state."""

    @abc.abstractmethod
    def remove(self, step: int) -> None:
        """Remove the snapshot of a step."""

    @final
    def prune(self, planned: tuple[int, ...], now: int) -> None:
        """Remove snapshots after step `now`, then thin the rest so that the `planned` steps fit.

        So there are never more than `planned` has, also when a run continues to another last step;
        without any nothing is removed.
        """
        if not planned:
            return
        earlier = [step for step in self.steps() if step <= now]
        num_free = max(len(planned) - sum(step > now for step in planned), 1)
        kept_indices = {
            round(i * (len(earlier) - 1) / max(num_free - 1, 1)) for i in range(num_free)
        }
        kept = earlier if len(earlier) <= num_free else [earlier[index] for index in kept_indices]
        for step in set(self.steps()) - set(kept):
            self.remove(step)


@final
@attrs.define
class InMemorySnapshots(Snapshots):
    """Snapshots in memory, for training without a run folder."""

    _states: dict[int, dict[str, Tensor]] = attrs.Factory(dict)

    def steps(self) -> list[int]:
        """Return the steps, in order."""
        return sorted(self._states)

    def state(self, step: int) -> dict[str, Tensor]:
        """Return the state of a step."""
        if step not in self._states:
            steps = ", ".join(map(str, self.steps())) or "none"
            raise ConfigError("snapshots", "step", f"{step} has none", steps)
        return self._states[step]

    def stamps(self) -> dict[int, tuple[int, ...]]:
        """Return the number of each state's object, which is never changed."""
        return {step: (id(self._states[step]),) for step in self.steps()}

    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step."""
        return {step: self._states[step] for step in self.steps()}

    def save(self, step: int, model: nn.Module) -> None:
        """Save a copy."""
        state = model.state_dict()
        self._states[step] = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def remove(self, step: int) -> None:
        """Remove the snapshot of a step."""
        del self._states[step]


@final
@attrs.define
class DiskSnapshots(Snapshots):
    """Snapshots in a run folder: a file for each step, written as safely as a checkpoint."""

    path: Path

    def steps(self) -> list[int]:
        """Return the steps, in order."""
        return list(step_paths(self.path))

    def state(self, step: int) -> dict[str, Tensor]:
        """Return the state of a step, from its file."""
        return read(step_path(self.path, step)).tensors

    def stamps(self) -> dict[int, tuple[int, ...]]:
        """Return time and size of each file; one that has just been removed is left out."""
        stamps: dict[int, tuple[int, ...]] = {}
        for step, path in step_paths(self.path).items():
            with contextlib.suppress(OSError):
                status = path.stat()
                stamps[step] = status.st_mtime_ns, status.st_size, status.st_ino
        return stamps

    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step; a corrupt file is left out, with a warning."""
        states = {}
        for step, path in step_paths(self.path).items():
            try:
                states[step] = read(path).tensors
            except CorruptCheckpointError as error:
                warn(f"{error}; the progression goes without it")
        return states

    def save(self, step: int, model: nn.Module) -> None:
        """Save a copy in a file."""
        checkpoint = Checkpoint({"step": step}, dict(model.state_dict()))
        atomic_write(step_path(self.path, step), checkpoint.to_bytes())

    def remove(self, step: int) -> None:
        """Remove the file of a step."""
        step_path(self.path, step).unlink()
