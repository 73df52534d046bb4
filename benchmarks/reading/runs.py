"""Runs: an agent of a recipe is trained in its folder, resumed, or loaded if it is finished."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

import agents
import tasks
from agents.core.agent import Agent
from agents.core.runs.checkpoint import atomic_write
from agents.core.runs.run_folder import BEST
from benchmarks.reading.recipes import DATA, Recipe
from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError
from tasks.core.task import Task

_SESSIONS = "sessions.json"


@attrs.frozen
class Place:
    """Where the runs are, and the data that are read from files."""

    runs: Path
    data: Path | None = None

    def run(self, name: str) -> Path:
        """Return the run folder of a recipe."""
        return self.runs / name

    def task(self, name: str) -> Task:
        """Make the task of data by name.

        Raises:
            ConfigError: its folder is missing, or a library that it needs.
        """
        data = DATA[name]
        settings: dict[str, Any] = {}
        if data.folder is not None:
            if self.data is None:
                raise ConfigError(
                    name, "--data", "is not given", f"a folder that has {data.folder}"
                )
            settings["path"] = str(self.data / data.folder)
        return tasks.make(data.task, **data.settings, **settings)


class Training(NamedTuple):
    """The cost of a training: seconds with its evaluations, and the threads it had.

    `is_whole` is false where a process was killed: what that one took is not known.
    """

    wall_seconds: float
    cpu_seconds: float
    threads: int
    is_whole: bool


class Trained(NamedTuple):
    """An agent with its best weights, and what they cost."""

    agent: Agent
    training: Training


class Session(NamedTuple):
    """What one process took for a run, and the step at which it ended."""

    wall_seconds: float
    cpu_seconds: float
    step: int


def train(name: str, recipe: Recipe, place: Place, settings: Mapping[str, Any]) -> Trained:
    """Train the agent of a recipe, or what is left to train; return it with its best weights.

    Args:
        name: of the recipe.
        recipe: agent, data and settings.
        place: of runs and data.
        settings: over those of the recipe, for a trial.

    Raises:
        TerrariumError: data are missing, or the folder has a run with other settings.
    """
    folder = place.run(name)
    chosen = {**recipe.settings, **settings}
    if recipe.init_from is not None:
        chosen["init_from"] = str(place.run(recipe.init_from) / BEST)
    agent = agents.make(recipe.agent, task=place.task(recipe.data), device="cpu", **chosen)
    _learn(agent, folder)
    training = _training(agent, folder)
    return Trained(agents.load(folder / BEST, device="cpu"), training)


def _learn(agent: Agent, folder: Path) -> None:
    """Train to the end in a run folder, and write down what this process took for it."""
    path = expand_user(str(folder)) / _SESSIONS
    earlier, session = _sessions(path), None
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, [*earlier, None])  # stays if this process is killed
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        agent.learn(run_dir=folder, progress=True)
    finally:
        step, steps = agent.state.cursor.step, [one.step for one in earlier if one is not None]
        if step > max(steps, default=0):  # a finished run is only loaded
            session = Session(time.perf_counter() - wall, time.process_time() - cpu, step)
        _write(path, [*earlier, session] if session else earlier)


def _training(agent: Agent, folder: Path) -> Training:
    sessions = _sessions(folder / _SESSIONS)
    whole = [one for one in sessions if one is not None]
    wall, cpu = sum(one.wall_seconds for one in whole), sum(one.cpu_seconds for one in whole)
    return Training(wall, cpu, agent.state.threads, len(whole) == len(sessions))


def _sessions(path: Path) -> list[Session | None]:
    """Return the sessions of a run so far; None: that process was killed."""
    entries = json.loads(path.read_text()) if path.exists() else []
    return [None if entry is None else Session(*entry) for entry in entries]


def _write(path: Path, sessions: Sequence[Session | None]) -> None:
    atomic_write(path, json.dumps(sessions).encode())
