"""Timing the steps within `learn()`."""

import contextlib
import time
from typing import Any

from torch import Tensor

from agents.core.agent import Agent
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
