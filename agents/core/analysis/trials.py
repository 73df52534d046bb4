"""Short trainings of fresh agents, which ask one thing each; the given agent stays as it is.

A fresh agent is of the same class, task and settings, but for what the trial changes. It draws
from generators of its own, and takes its steps as any other agent does.
"""

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from agents.core.agent import Agent
from agents.core.training import devices, parallel
from agents.core.training.loop import Cursor, DivergedError, Stepper, train_steps
from agents.core.training.monitoring import constant_answer
from agents.core.training.state import Climb
from tasks.core.batch import num_samples
from tasks.core.settings import ConfigError, fields
from tasks.core.synthetic import easy_task, single_batch_task
from tasks.core.task import Task
from visualization.diagnosis import BASELINE, RateTest, Trial, has_diverged, rate_test
from visualization.model.cost import CostCounter

STEPS = 200  # of a trial
NUM_BY_HEART = 16  # samples of the one batch
NUM_JUDGED = 256  # training samples on which a trial's end is judged
NUM_RANGED = 64  # training samples on which the range test is judged after each step
NUM_COUNTED = 8  # training samples on which the work of a step is counted
_LENGTHS = (
    "length",
    "train_length",
    "digits",
    "block_size",
)  # settings that say how long questions are
_SHORTER = 4  # times, from one length to the next
_SHORTEST = 2
_WIDER = 32  # units that a larger model has at least


def fresh(agent: Agent, task: Task | None = None, **settings: Any) -> Agent:
    """Return an untrained agent of the same class, with some settings changed."""
    config = attrs.evolve(agent.config, threads=agent.state.threads, **settings)
    with warnings.catch_warnings():  # of one layer with the dropout that was meant for more
        warnings.filterwarnings("ignore", "dropout option adds dropout")
        return type(agent)(task or agent.task, config, agent.device.type)


def overfit_one_batch(agent: Agent, steps: int = STEPS) -> Trial:
    """Learn one small batch by heart, without dropout and weight decay."""
    learner = fresh(agent, **_changed(agent, {"dropout": 0.0, "weight_decay": 0.0}))
    batch = next(_batches(learner, learner.task, NUM_BY_HEART))
    return _learn(learner, single_batch_task(agent.task, batch), steps)


def synthetic(agent: Agent, steps: int = STEPS) -> Trial | None:
    """Learn an easy task of the same shapes, if there is one; see `easy_task`."""
    task = easy_task(agent.task)
    if task is None:
        return None
    return _learn(fresh(agent, curriculum_loss_threshold=None), task, steps)


def by_length(agent: Agent, steps: int = STEPS) -> dict[int, Trial]:
    """Learn the task at its own length, at a quarter of it, and so on: steps read → trial.

    Empty for a task whose length no setting says.
    """
    found: dict[int, Trial] = {}
    for task in lengths_of(agent.task):
        read = np.asarray(task.samples("train", 1)[0]).shape[1]
        if read not in found:  # only what is scored may be longer, as with parity
            found[read] = _learn(fresh(agent, task, curriculum_loss_threshold=None), task, steps)
    return found


def lengths_of(task: Task) -> list[Task]:
    """Return the task and its shorter forms, down to two steps; nothing if none is known."""
    known = [name for name in _LENGTHS if name in fields(type(task))]
    if not known:
        return []
    found, most = [task], max(getattr(task, name) for name in known)
    shortest = 1 if known == ["digits"] else _SHORTEST
    while most > shortest:
        most = max(shortest, most // _SHORTER)
        found += _shortened(task, known, most)
    return found


def _shortened(task: Task, known: Sequence[str], most: int) -> list[Task]:
    """Return the task with no length above `most`, if there is such a task."""
    try:
        return [attrs.evolve(task, **{name: min(most, getattr(task, name)) for name in known})]
    except ConfigError:  # too short, or too few questions for three splits
        return []


def at_rate(agent: Agent, rate: float, steps: int = STEPS) -> dict[str, Trial]:
    """Learn with another learning rate, Muon's in proportion: setting → trial."""
    learner = fresh(agent, **_rates(agent, rate))
    return {f"learning_rate={rate:.2g}": _learn(learner, agent.task, steps)}


def _rates(agent: Agent, rate: float) -> dict[str, Any]:
    """Return the settings that take a learning rate."""
    muon = agent.config.muon_learning_rate * rate / agent.config.learning_rate
    return {"learning_rate": rate, "muon_learning_rate": muon}


def by_size(agent: Agent, steps: int = STEPS) -> dict[str, Trial]:
    """Learn as it is, with more units, with one layer, and without dropout: setting → trial."""
    found = {BASELINE: _learn(fresh(agent), agent.task, steps)}
    config = agent.config
    units = getattr(config, "hidden_size", None)
    wanted = {"num_layers": 1, "dropout": 0.0}
    wanted |= {"hidden_size": max(2 * units, _WIDER)} if units else {}
    for name, value in _changed(agent, wanted).items():
        found[f"{name}={value:g}"] = _learn(fresh(agent, **{name: value}), agent.task, steps)
    return found


def _changed(agent: Agent, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that the agent has, with another value."""
    known = fields(type(agent.config))
    return {
        name: value
        for name, value in wanted.items()
        if name in known and getattr(agent.config, name) != value
    }


def range_test(
    agent: Agent, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100
) -> RateTest:
    """Let the learning rate rise evenly on a logarithmic scale, and see where the loss falls.

    Muon's rate keeps its proportion to Adam's. A task of several stages is at its first, since at
    the last no rate may do anything; and there is no dropout, which hides small falls. After each
    step the loss is that of the same 64 samples, for the noise of small batches hides every fall.
    The test ends when it is four times its first level.

    Raises:
        ConfigError: the rates do not rise, or there are fewer than three steps.
    """
    if not 0 < lowest < highest or steps < 3:
        problem = f"{lowest:g} to {highest:g} in {steps} steps is no rise"
        raise ConfigError("range_test()", "", problem, "0 < lowest < highest, 3 steps or more")
    learner = fresh(agent, **_rates(agent, highest), **_changed(agent, {"dropout": 0.0}))
    rates = [float(rate) for rate in np.geomspace(lowest, highest, steps)]
    other = learner.config.seed + 1  # other samples than those of the first steps
    judged = next(learner.task.batches("train", NUM_RANGED, other, 0, 0, 0))
    losses: list[float] = []
    with _own(learner):
        stepper = _stepper(learner)
        batches = _batches(learner, learner.task, learner.config.batch_size, stage=0)
        for number, (rate, batch) in enumerate(zip(rates, batches, strict=False), start=1):
            try:
                stepper.step(batch, number, rate / highest)
                losses.append(learner.mean_loss(judged))
            except DivergedError:
                losses.append(math.inf)
            if has_diverged(losses):
                break
    return rate_test(rates[: len(losses)], losses)


def work_of_step(agent: Agent) -> int:
    """Return the multiply-adds of the forward pass of one batch, at the task's last stage.

    A count, no time, so that what hangs on it is the same on every machine. A few samples are
    counted, and stand for the batch.
    """
    learner = fresh(agent, curriculum_loss_threshold=None)
    counter = CostCounter(learner.model)
    batch = next(_batches(learner, learner.task, NUM_COUNTED))
    with _own(learner), counter.watch():
        learner.mean_loss(batch)
    counted = counter.table(num := num_samples(batch)).multiply_adds
    total: int = counted * learner.config.batch_size // num
    return total


def _learn(learner: Agent, task: Task, steps: int) -> Trial:
    """Take the steps of a fresh agent's recipe on a task, and judge the end of it.

    A task of several stages begins where the recipe does, and climbs by it.
    """
    learner.config = attrs.evolve(learner.config, steps=steps, epochs=None)
    cursor = Cursor(stage=min(learner.state.cursor.stage, task.num_stages - 1))
    first, losses, final = cursor.stage, list[float](), math.inf
    with _own(learner):
        with contextlib.suppress(DivergedError):
            losses.extend(_climbing(learner, task, cursor))
        judged = next(_batches(learner, task, NUM_JUDGED, cursor.stage))
        if len(losses) == steps:
            final = learner.mean_loss(judged)
    return Trial(
        losses=tuple(losses),
        final=final if math.isfinite(final) else math.inf,
        chance=_chance(learner, task, judged),
        stage=cursor.stage - first,
        num_stages=task.num_stages - first,
    )


def _chance(learner: Agent, task: Task, judged: Any) -> float:
    """Return the loss of the best constant prediction; of ragged targets, of an untrained model."""
    targets = task.targets(judged)
    if isinstance(targets, np.ndarray):
        return constant_answer(targets)[1]
    return fresh(learner).mean_loss(judged)


def _climbing(learner: Agent, task: Task, cursor: Cursor) -> Iterator[float]:
    """Yield the losses of steps; a low one brings the task's next stage, as in learning."""
    climb = Climb()
    for record in train_steps(_stepper(learner), task, cursor):
        yield record.loss
        if cursor.stage + 1 < task.num_stages:
            cursor.stage += climb.rises(record.loss, learner.config)


def _stepper(learner: Agent) -> Stepper:
    state = learner.state
    return Stepper(
        learner.model, learner.loss, learner.config, state.optimizer, learner.device,
        state.precision, learner.num_parts(state.threads),
    )  # fmt: skip


@contextlib.contextmanager
def _own(learner: Agent) -> Iterator[None]:
    """Draw from an agent's own generators and compute with its own threads within a block."""
    state = learner.state
    with (
        devices.threads(parallel.threads_each(state.threads, learner.num_parts(state.threads))),
        devices.own_randomness(learner.device, learner.config.seed, state.random),
    ):
        yield


def _batches(
    learner: Agent, task: Task, batch_size: int, stage: int | None = None
) -> Iterator[Any]:
    """Yield training batches without end, of the stage at which the agent begins."""
    at = learner.state.cursor.stage if stage is None else stage
    for epoch in itertools.count():
        yield from task.batches("train", batch_size, learner.config.seed, epoch, 0, at)
