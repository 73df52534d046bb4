"""Trials: short trainings of untrained copies of an agent, which is unchanged.

A copy has the same class, task and settings, except for what the trial changes, and its own random
number generators. It is trained as any other agent is.
"""

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from agents.core.agent import Agent
from agents.core.training.loop import (
    TrainStep,
    train_steps,
    training_environment,
)
from agents.core.training.monitoring import majority_baseline
from agents.core.training.state import CurriculumTracker, Cursor
from agents.core.training.step_record import DivergedError
from tasks.core import earlier_names
from tasks.core.batch import num_samples
from tasks.core.settings import ConfigError, fields
from tasks.core.synthetic import easy_task, single_batch_task
from tasks.core.task import Task
from visualization.diagnosis import BASELINE, RateTest, Trial, has_diverged, rate_test
from visualization.model.cost import CostCounter

STEPS = 200  # of a trial
NUM_BY_HEART = 16  # samples of the one batch
NUM_FINAL = 256  # training samples of a trial's final loss
NUM_RANGE_TEST = 64  # training samples of the loss after each step of the range test
NUM_COST = 8  # training samples whose multiply-adds are counted
_LENGTHS = ("length", "train_length", "digits", "block_size")  # settings of tasks
_LENGTH_RATIO = 4  # from one length to the next
_SHORTEST = 2
_MIN_WIDE = 32  # units of a larger model, at least


def untrained_copy(agent: Agent, task: Task | None = None, **settings: Any) -> Agent:
    """Return an untrained agent of the same class, with some settings changed."""
    config = attrs.evolve(agent.config, threads=agent.state.threads, **settings)
    with warnings.catch_warnings():  # about dropout between layers of a single one
        warnings.filterwarnings("ignore", "dropout option adds dropout")
        return type(agent)(task or agent.task, config, agent.device.type)


def overfit_one_batch(agent: Agent, steps: int = STEPS) -> Trial:
    """Overfit one small batch, without dropout and weight decay."""
    learner = untrained_copy(agent, **_applicable(agent, {"dropout": 0.0, "weight_decay": 0.0}))
    batch = next(_batches(learner, learner.task, NUM_BY_HEART))
    return _run_trial(learner, single_batch_task(agent.task, batch), steps)


def train_on_easy_task(agent: Agent, steps: int = STEPS) -> Trial | None:
    """Train on an easy task of the same shapes, if there is one; see `easy_task`."""
    task = easy_task(agent.task)
    if task is None:
        return None
    return _run_trial(untrained_copy(agent, curriculum_loss_threshold=None), task, steps)


def train_by_length(agent: Agent, steps: int = STEPS) -> dict[int, Trial]:
    """Train at the task's length, at a quarter of it, and so on: length of a sequence → trial.

    Empty for a task that has no setting of its length.
    """
    by_length: dict[int, Trial] = {}
    for task in shorter_tasks(agent.task):
        length = np.asarray(task.samples("train", 1)[0]).shape[1]
        if length not in by_length:  # lengths of evaluation alone may differ, as with parity
            by_length[length] = _run_trial(
                untrained_copy(agent, task, curriculum_loss_threshold=None), task, steps
            )
    return by_length


def shorter_tasks(task: Task) -> list[Task]:
    """Return the task and its shorter forms, down to two steps; empty without such a setting."""
    names = [name for name in _LENGTHS if name in fields(type(task))]
    if not names:
        return []
    shorter, longest = [task], max(getattr(task, name) for name in names)
    shortest = 1 if names == ["digits"] else _SHORTEST
    while longest > shortest:
        longest = max(shortest, longest // _LENGTH_RATIO)
        shorter += _with_lengths(task, names, longest)
    return shorter


def _with_lengths(task: Task, names: Sequence[str], longest: int) -> list[Task]:
    """Return the task with no length above `longest`, if there is such a task."""
    try:
        return [attrs.evolve(task, **{name: min(longest, getattr(task, name)) for name in names})]
    except ConfigError:  # too short, or too few questions for three splits
        return []


def train_at_lr(agent: Agent, learning_rate: float, steps: int = STEPS) -> dict[str, Trial]:
    """Train with another learning rate, Muon's in proportion: setting → trial."""
    learner = untrained_copy(agent, **_rates(agent, learning_rate))
    return {f"learning_rate={learning_rate:.2g}": _run_trial(learner, agent.task, steps)}


def _rates(agent: Agent, learning_rate: float) -> dict[str, Any]:
    """Return the settings of a learning rate, Muon's in proportion."""
    muon = agent.config.muon_learning_rate * learning_rate / agent.config.learning_rate
    return {"learning_rate": learning_rate, "muon_learning_rate": muon}


def train_by_size(agent: Agent, steps: int = STEPS) -> dict[str, Trial]:
    """Train unchanged, with more units, with one layer, and without dropout: setting → trial."""
    by_setting = {BASELINE: _run_trial(untrained_copy(agent), agent.task, steps)}
    config = agent.config
    units = getattr(config, "hidden_size", None)
    changes = {"num_layers": 1, "dropout": 0.0}
    changes |= {"hidden_size": max(2 * units, _MIN_WIDE)} if units else {}
    for name, value in _applicable(agent, changes).items():
        by_setting[f"{name}={value:g}"] = _run_trial(
            untrained_copy(agent, **{name: value}), agent.task, steps
        )
    return by_setting


def _applicable(agent: Agent, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that the agent has with another value."""
    names = fields(type(agent.config))
    return {
        name: value
        for name, value in changes.items()
        if name in names and getattr(agent.config, name) != value
    }


def range_test(
    agent: Agent, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100
) -> RateTest:
    """Learning-rate range test: raise the rate evenly on a logarithmic scale, record the loss.

    Muon's rate keeps its proportion to Adam's. A task with a curriculum is at its first stage,
    since at the last no rate may have an effect; and there is no dropout, which hides small
    decreases. After each step the loss is that of the same 64 samples, as the noise of small
    batches hides every decrease. The test ends when the loss is four times its first level.

    Raises:
        ConfigError: the range is empty, or there are fewer than three steps.
    """
    if not 0 < lowest < highest or steps < 3:
        problem = f"{lowest:g} to {highest:g} in {steps} steps is not a rising range"
        raise ConfigError("range_test()", "", problem, "0 < lowest < highest, 3 steps or more")
    learner = untrained_copy(
        agent, **_rates(agent, highest), **_applicable(agent, {"dropout": 0.0})
    )
    rates = [float(rate) for rate in np.geomspace(lowest, highest, steps)]
    seed = learner.config.seed + 1  # other samples than those of the first steps
    samples = next(learner.task.batches("train", NUM_RANGE_TEST, seed, 0, 0, 0))
    losses: list[float] = []
    with training_environment(learner):
        train_step = TrainStep(learner)
        batches = _batches(learner, learner.task, learner.config.batch_size, stage=0)
        for number, (rate, batch) in enumerate(zip(rates, batches, strict=False), start=1):
            try:
                train_step.step(batch, number, rate / highest)
                losses.append(learner.mean_loss(samples))
            except DivergedError:
                losses.append(math.inf)
            if has_diverged(losses):
                break
    return rate_test(rates[: len(losses)], losses)


def work_of_step(agent: Agent) -> int:
    """Return the multiply-adds of the forward pass of one batch, at the task's last stage.

    A count instead of a time, so that results are the same on every machine. It is extrapolated
    from a few samples.
    """
    learner = untrained_copy(agent, curriculum_loss_threshold=None)
    counter = CostCounter(learner.model)
    batch = next(_batches(learner, learner.task, NUM_COST))
    with training_environment(learner), counter.watch():
        learner.mean_loss(batch)
    multiply_adds = counter.table(num := num_samples(batch)).multiply_adds
    total: int = multiply_adds * learner.config.batch_size // num
    return total


def _run_trial(learner: Agent, task: Task, steps: int) -> Trial:
    """Train an untrained agent on a task for some steps, and evaluate the result.

    A task with a curriculum starts at the stage of the agent's settings, and advances by them.
    """
    learner.config = attrs.evolve(learner.config, steps=steps, epochs=None)
    cursor = Cursor(stage=min(learner.state.cursor.stage, task.num_stages - 1))
    first_stage, losses, final = cursor.stage, list[float](), math.inf
    with training_environment(learner):
        with contextlib.suppress(DivergedError):
            losses.extend(_curriculum_losses(learner, task, cursor))
        samples = next(_batches(learner, task, NUM_FINAL, cursor.stage))
        if len(losses) == steps:
            final = learner.mean_loss(samples)
    return Trial(
        losses=tuple(losses),
        final=final if math.isfinite(final) else math.inf,
        chance=_baseline_loss(learner, task, samples),
        stage=cursor.stage - first_stage,
        num_stages=task.num_stages - first_stage,
    )


def _baseline_loss(learner: Agent, task: Task, batch: Any) -> float:
    """Return the loss of the best constant prediction; of ragged targets, of an untrained model."""
    own_loss = learner.constant_loss(batch)
    if own_loss is not None:
        return own_loss
    targets = task.targets(batch)
    if isinstance(targets, np.ndarray):
        return majority_baseline(targets)[1]
    return untrained_copy(learner).mean_loss(batch)


def _curriculum_losses(learner: Agent, task: Task, cursor: Cursor) -> Iterator[float]:
    """Yield the losses of steps; the curriculum advances as in training."""
    curriculum = CurriculumTracker()
    for record in train_steps(learner, task, cursor):
        yield record.loss
        if cursor.stage + 1 < task.num_stages:
            cursor.stage += curriculum.should_advance(record.loss, learner.config)


def _batches(
    learner: Agent, task: Task, batch_size: int, stage: int | None = None
) -> Iterator[Any]:
    """Yield training batches endlessly, of a stage, or of that of the agent."""
    if stage is None:
        stage = learner.state.cursor.stage
    for epoch in itertools.count():
        yield from task.batches("train", batch_size, learner.config.seed, epoch, 0, stage)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
