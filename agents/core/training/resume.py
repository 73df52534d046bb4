"""Resuming runs, starting from checkpoints, and fine-tuning from the weights of another run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

import tasks
from agents.core.config import ConfigError, flat_settings
from agents.core.runs.checkpoint import Checkpoint, from_bytes, read_agent
from agents.core.runs.run_folder import Folder
from agents.core.runs.sinks import Sink
from agents.core.training import devices
from agents.core.training.loop import total_steps
from agents.core.training.processes import Group, num_ranks, rank_key
from agents.core.training.state import Best, State
from tasks.core.paths import expand_user
from tasks.core.registry import look_up
from tasks.core.settings import mutable_settings, present_values

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol


def is_done(agent: "AgentProtocol") -> bool:
    """Return whether all steps are taken, or training stopped early, with no phase unfinished."""
    state, total = agent.state, total_steps(agent.config, agent.task)
    return (state.stopped_early or state.cursor.step >= total) and not state.cursor.unfinished


def resume_from_folder(agent: "AgentProtocol", folder: Folder, place: str, sink: Sink) -> None:
    """Resume: restore the folder's latest checkpoint, if it has more steps than the agent.

    An agent that was interrupted inside a step, by a second SIGINT or an error, is restored too. A
    run that stopped early continues if its total is now larger.
    """
    state, config = agent.state, agent.config
    checkpoint = folder.latest_valid_checkpoint(sink.warn)
    if checkpoint is None:
        if config.init_from is not None and state.cursor.step == 0:
            load_initial_weights(expand_user(config.init_from), agent, sink)
        return
    _check_same_settings(agent, checkpoint, place)
    if state.cursor.unfinished or checkpoint.values["cursor"]["step"] >= state.cursor.step:
        state.restore(checkpoint)
        steps, epochs = (checkpoint.values["config"][name] for name in ("steps", "epochs"))
        earlier = attrs.evolve(config, steps=steps, epochs=epochs)
        if total_steps(config, agent.task) > total_steps(earlier, agent.task):
            state.reset_early_stopping()


def _check_same_settings(agent: "AgentProtocol", checkpoint: Checkpoint, place: str) -> None:
    values, mutable = checkpoint.values, mutable_settings(type(agent.config))
    present: dict[str, Any] = {}
    if look_up(values["task"], tasks.TASKS):  # perhaps by an earlier name
        settings = present_values(tasks.task_class(values["task"]), values["task_settings"])
        task = tasks.make(values["task"], **settings)
        present = {"task": task.name, "task_settings": tasks.settings_of(task)}
    config = present_values(type(agent.config), values["config"])
    run_settings = flat_settings({**values, **present, "config": config})
    for name, value in flat_settings(agent.identity()).items():
        # A setting that did not exist when the run started had no effect on it.
        if run_settings.get(name, value) != value and name not in mutable:
            raise ConfigError(
                place,
                name,
                f"the run in this folder has {run_settings.get(name)!r}, this one {value!r}",
                "the same settings, another --run-dir, or --resume never",
            )


def start_from(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Start from a checkpoint of the same agent and task, without its best score."""
    checkpoint = read_agent(path)
    for kind in ("agent", "task"):
        if checkpoint.values[kind] != identity[kind]:
            problem = f"is of the {kind} {checkpoint.values[kind]!r}, and not {identity[kind]!r}"
            raise ConfigError(str(path), "", problem, f"a checkpoint of {identity[kind]!r}")
    state.restore(checkpoint)
    state.best, state.stopped_early = Best(), False
    state.hidden_state = {}  # of other data, perhaps


def share_state(agent: "AgentProtocol", group: Group) -> None:
    """Give every rank of a group the state of rank 0, as a checkpoint has it.

    With as many ranks as the checkpoint was written by, training continues exactly: each has its
    own random state. With another number of them, also with a single process, the data is the same;
    ranks that have no random state draw from a new seed, and the number of threads is chosen anew.
    """
    state, own_threads = agent.state, agent.config.threads
    if group.size > 1:
        data = np.frombuffer(agent.checkpoint().to_bytes(), np.uint8) if group.is_main else None
        data, unfinished = group.broadcast([data, state.cursor.unfinished])
        if not group.is_main:
            state.restore(from_bytes(data.tobytes(), Path("rank 0")))
        state.cursor.unfinished = unfinished
        own_threads = own_threads or group.broadcast(torch.get_num_threads())
    if num_ranks(list(state.rng_state)) != group.size:
        kept = {rank_key(kind, n) for kind in ("cpu", "cuda", "mps") for n in range(group.size)}
        state.rng_state = {key: value for key, value in state.rng_state.items() if key in kept}
        state.threads = own_threads or agent.num_parts(torch.get_num_threads())


def load_initial_weights(path: Path, agent: "AgentProtocol", sink: Sink) -> None:
    """Fine-tuning: load the weights of a run wherever name and shape are the same.

    Other weights, such as a head for other labels, keep their random initialisation, with a
    warning. Optimiser, history and random state are this run's own.

    Raises:
        CheckpointError: the file is missing, cut off or damaged.
        ConfigError: none of its weights fits.
    """
    saved = agent.weights_from(read_agent(path))
    own = agent.model.state_dict()
    fitting = {n: t for n, t in saved.items() if n in own and t.shape == own[n].shape}
    if not fitting:
        accepted = f"a checkpoint with some of {', '.join(list(own)[:3])}, …"
        raise ConfigError("init_from", "", f"no weight of {path} fits this model", accepted)
    agent.model.load_state_dict({**own, **fitting})
    others = [name for name in own if name not in fitting]
    if others:
        sink.warn(
            f"init_from: {', '.join(others)} are initialised at random: {path} has no such shape"
        )


def use_native_precision(agent: "AgentProtocol", sink: Sink) -> None:
    """Refuse bf16 where the device emulates it; a run that started in it continues in fp32."""
    state, device = agent.state, agent.device
    if state.precision != "bf16" or devices.computes_bf16(device):
        return
    problem = f"'bf16' is not computed natively by this {device.type}"
    if state.cursor.step == 0:
        raise ConfigError("precision", "", problem, "fp32 or auto")
    sink.warn(f"precision: {problem}; the run started in it and continues in fp32")
    state.precision = "fp32"
