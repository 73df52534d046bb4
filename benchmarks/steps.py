"""Timing the steps within `learn()`."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from agents.core.agent import Agent
from agents.core.training.loop import train_steps, training_environment
from benchmarks.measure import Terminal, scratch

NEVER = 10**9  # for eval_every: the only evaluation is then the one after the last step


def seconds_of_learning(agent: Agent, warm: int, steps: int) -> float:
    """Return the wall-clock seconds of `steps` steps within `learn()`, after `warm` others.

    All that learn() does between two steps is in them: drawing batches, records, the progress bar,
    metrics and event files, checkpoints. Its start, the evaluation after the last step and its end
    are not: the clock is read when a step asks for the loss of its first part, and one more step is
    taken than timed.
    """
    stamps: list[float] = []
    loss_fn = agent.loss

    def stamped(batch: Any) -> Tensor:
        stamps.append(time.perf_counter())
        return loss_fn(batch)

    agent.loss = stamped  # type: ignore[method-assign]
    with scratch() as folder, contextlib.redirect_stderr(Terminal()):
        agent.learn(warm + steps + 1, run_dir=folder, progress=True)
    first = sorted(stamps)[:: agent.num_parts(agent.state.threads)]
    return first[warm + steps] - first[warm]


def seconds_of_windows(agent: Any, first: int, num: int) -> Iterator[float]:
    """Yield the seconds of `num` steps of the training loop again and again, after `first` others.

    The loop alone: batches, losses, gradients and the optimiser, without records and checkpoints.
    """
    with training_environment(agent):
        steps = train_steps(agent, agent.task, agent.state.cursor)
        for _ in range(first):
            next(steps)
        while True:
            begun = time.perf_counter()
            for _ in itertools.islice(steps, num):
                pass
            yield time.perf_counter() - begun
