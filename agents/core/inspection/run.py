"""A run that the live page follows: its folder, which is only read, and its weight snapshots."""

import contextlib
import functools
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.core.config import flat_settings
from agents.core.inspection.observation import Observation, RecurrentPart
from tasks.core.batch import num_samples, take
from tasks.core.settings import TerrariumError
from visualization.live.images import ImageEngine
from visualization.live.layer_edits import with_weights
from visualization.live.run_panel import RunSource, SnapshotAnswer, SnapshotMaps, Snapshots

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_SAMPLES = 6  # that are followed through training
_KEPT = 4  # snapshots whose weights are kept


def settings_of(agent: "AgentProtocol") -> dict[str, Any]:
    """Return all settings, with the actual numbers of validation samples and stages."""
    task, config = agent.task, agent.config
    num = num_samples(task.samples("validation", config.eval_samples))
    actual = {
        "eval_samples": num, "asked_samples": config.eval_samples, "num_stages": task.num_stages,
    }  # fmt: skip
    return {**flat_settings(agent.identity()), **actual}


@final
class SnapshotStates(Mapping[int, Mapping[str, Tensor]]):
    """Weights of an agent's snapshots by step; each is read when it is needed."""

    def __init__(self, agent: "AgentProtocol") -> None:
        self._agent = agent
        self._read: dict[int, tuple[Any, Mapping[str, Tensor]]] = {}

    def stamps(self) -> Mapping[int, Any]:
        """Return of each step what changes when its snapshot is written again."""
        return self._agent.snapshots.stamps()

    def __iter__(self) -> Iterator[int]:
        return iter(self._agent.snapshots.steps())

    def __len__(self) -> int:
        return len(self._agent.snapshots.steps())

    def __getitem__(self, step: int) -> Mapping[str, Tensor]:
        """Return the weights of a step.

        Raises:
            ValueError: its snapshot is corrupt, or was removed.
        """
        stamp = self.stamps().get(step)
        stored = self._read.pop(step, None)
        if stored is None or stored[0] != stamp:
            try:
                stored = stamp, self._agent.snapshots.state(step)
            except TerrariumError as error:
                raise ValueError(f"the snapshot of step {step} cannot be read: {error}") from None
        self._read[step] = stored
        while len(self._read) > _KEPT:
            self._read.pop(next(iter(self._read)))
        return stored[1]


def run_source(
    agent: "AgentProtocol", folder: Path, batch: Any, states: SnapshotStates,
    engine: ImageEngine | None,
) -> RunSource:  # fmt: skip
    """Return what the live page follows of a run.

    Args:
        agent: as the run's; it is unchanged.
        folder: of the run; it is only read.
        batch: test samples, of which the first few are followed.
        states: weights of the snapshots.
        engine: of the images of the batch, for feature maps; None: there are none.
    """
    return RunSource(
        folder=folder, records=folder / "metrics.jsonl",
        status=functools.partial(read_status, folder), settings=settings_of(agent),
        monitor=agent.task.monitor, batch_size=agent.config.batch_size,
        snapshots=_Samples(agent, batch, states, engine).snapshots(),
    )  # fmt: skip


def read_status(folder: Path) -> dict[str, Any]:
    """Return what status.json says; the state is `killed` where its process is no more."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(status, dict):
        return {}
    found = {name: status[name] for name in ("state", "steps", "reason") if name in status}
    if status.get("state") == "running" and _has_ended(folder, status.get("pid")):
        found |= {"state": "killed", "reason": "its process ended without a word"}
    return found


def _has_ended(folder: Path, pid: object) -> bool:
    """Tell whether a process of this machine is no more; of another it is not known."""
    with contextlib.suppress(OSError):
        host = (folder / "lock").read_text(encoding="utf-8").split()[1:]
        if host == [socket.gethostname()] and type(pid) is int and pid > 0:
            try:
                os.kill(pid, 0)  # no signal is sent
            except ProcessLookupError:
                return True
    return False


@final
class _Samples:
    """Fixed test samples, and what the model makes of them with the weights of a snapshot."""

    def __init__(
        self, agent: "AgentProtocol", batch: Any, states: SnapshotStates,
        engine: ImageEngine | None,
    ) -> None:  # fmt: skip
        self._agent, self._states, self._engine = agent, states, engine
        self._task = agent.task.for_display()
        self._batch = take(batch, 0, NUM_SAMPLES)
        self._observation: Observation = agent.observe(self._batch)

    def snapshots(self) -> Snapshots:
        """Return what the page shows of the snapshots."""
        views: dict[str, Literal["maps", "cells"]] = {}
        if self._engine is not None:
            views |= dict.fromkeys(self._engine.layers, "maps")
        views |= dict.fromkeys(self._cells(self._observation), "cells")
        return Snapshots(
            stamps=self._states.stamps, views=views, answers=self.answers, maps=self.maps,
            samples=[(row.question, row.target) for row in self._observation.rows],
            images=self._images(),
        )  # fmt: skip

    def _images(self) -> NDArray[np.float32] | None:
        """Return the images as they are looked at: ink is dark."""
        if self._engine is None:
            return None
        subject = self._engine.subject
        scaled = (subject.images[:NUM_SAMPLES] - subject.low) / (subject.high - subject.low)
        return np.asarray(1 - scaled if subject.is_ink else scaled, np.float32)

    def answers(self, step: int) -> Sequence[SnapshotAnswer]:
        """Return the answer to each sample with the weights of a step."""
        with with_weights(self._agent.model, self._states[step]):
            rows = self._task.rows(self._agent.predict_arrays(self._batch), self._batch)
        return [SnapshotAnswer(answer=row.answer, is_right=row.correct) for row in rows]

    def maps(self, step: int, view: str, sample: int) -> SnapshotMaps:
        """Return feature maps, or states of cells (1, units, steps), with the weights of a step."""
        if self._engine is not None and view in self._engine.layers:
            image = self._engine.subject.images[sample]
            return SnapshotMaps(maps=self._engine.forward(image, view, step=step).maps)
        with with_weights(self._agent.model, self._states[step]):
            observation = self._agent.observe(take(self._batch, sample, sample + 1))
            part, row = self._cells(observation)[view]
            trace = observation.traces[part.name]
        states = trace.bounded(row)[0].float().cpu().numpy()
        return SnapshotMaps(maps=states.T[None].copy(), steps=part.text[0].tolist())

    def _cells(self, observation: Observation) -> dict[str, tuple[RecurrentPart, int]]:
        """Return part, and row of its trace, of each recurrent layer and direction by name."""
        found = {}
        for part in observation.recurrent:
            num_directions = 2 if part.layer.bidirectional else 1
            num = part.layer.num_layers * num_directions
            for row in range(num):
                layer, direction = divmod(row, num_directions)
                name = f"{part.name}, layer {layer}" + (" backwards" if direction else "")
                found[part.name if num == 1 else name] = part, row
        return found
