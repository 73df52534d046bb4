"""Copies of a model's weights through training, so that one can see how they came about."""

import abc
import re
from collections.abc import Callable
from pathlib import Path
from typing import final

import attrs
from torch import Tensor, nn

from agents.core.runs.checkpoint import Checkpoint, DamagedError, read, write_durably

FOLDER = "progression"  # within a run folder
_FILE = re.compile(r"step-(\d+)\.safetensors")


def moments(total: int, num: int) -> tuple[int, ...]:
    """Return at most `num` steps from 0 to `total`, close together where most happens: early.

    They stand like cubes of even steps, so that they depend on nothing but the two numbers; none
    if `num` is 0.

    >>> moments(1000, 6)
    (0, 8, 64, 216, 512, 1000)
    """
    return tuple(sorted({round(total * (i / max(num - 1, 1)) ** 3) for i in range(num)}))


class Snapshots(abc.ABC):
    """The states of one model by step: parameters and buffers."""

    @abc.abstractmethod
    def steps(self) -> list[int]:
        """Return the steps of which there is a state, in order."""

    @abc.abstractmethod
    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step, in order; `warn` is told of any that cannot be read."""

    @abc.abstractmethod
    def keep(self, step: int, model: nn.Module) -> None:
        """Keep a copy of a model's state."""

    @abc.abstractmethod
    def drop(self, step: int) -> None:
        """Forget the state of a step."""

    @final
    def make_room(self, coming: tuple[int, ...], now: int) -> None:
        """Forget what lies beyond step `now`, and as much else as the `coming` steps need room.

        So there are never more than `coming` has, also when a run goes on to another last step;
        without any nothing is forgotten.
        """
        if not coming:
            return
        behind = [step for step in self.steps() if step <= now]
        room = max(len(coming) - sum(step > now for step in coming), 1)
        places = {round(i * (len(behind) - 1) / max(room - 1, 1)) for i in range(room)}
        kept = behind if len(behind) <= room else [behind[place] for place in places]
        for step in set(self.steps()) - set(kept):
            self.drop(step)


@final
@attrs.define
class Remembered(Snapshots):
    """In memory: for learning without a run folder."""

    _held: dict[int, dict[str, Tensor]] = attrs.Factory(dict)

    def steps(self) -> list[int]:
        """Return the steps, in order."""
        return sorted(self._held)

    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step."""
        return {step: self._held[step] for step in self.steps()}

    def keep(self, step: int, model: nn.Module) -> None:
        """Keep a copy."""
        state = model.state_dict()
        self._held[step] = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def drop(self, step: int) -> None:
        """Forget the state of a step."""
        del self._held[step]


@final
@attrs.define
class Written(Snapshots):
    """In a run folder: a file for each step, as durable as a checkpoint."""

    path: Path

    def _files(self) -> dict[int, Path]:
        found = ((_FILE.fullmatch(path.name), path) for path in self.path.glob("step-*"))
        return dict(sorted((int(match[1]), path) for match, path in found if match))

    def steps(self) -> list[int]:
        """Return the steps, in order."""
        return list(self._files())

    def states(self, warn: Callable[[str], None]) -> dict[int, dict[str, Tensor]]:
        """Return the states by step; a damaged file is named and left out."""
        found = {}
        for step, path in self._files().items():
            try:
                found[step] = read(path).tensors
            except DamagedError as error:
                warn(f"{error}; the progression goes without it")
        return found

    def keep(self, step: int, model: nn.Module) -> None:
        """Write a copy."""
        path = self.path / f"step-{step:09d}.safetensors"
        write_durably(path, Checkpoint({"step": step}, dict(model.state_dict())).to_bytes())

    def drop(self, step: int) -> None:
        """Remove the file of a step."""
        self._files()[step].unlink()
