"""What recording for the doctor costs: `record_diagnostics` on beside off, learning the same bits.

The timed part has the evaluations that an agent makes by default, so that both what is recorded
with the steps and what is recorded with evaluations has its full share. Times are of the processor,
with one thread, so that other work on the machine says little; they scatter by some percent all the
same, and so the parts are measured by themselves too.
"""

import math
import time
from collections.abc import Callable

import agents
import tasks
from agents.core.agent import Agent
from agents.core.training import monitoring
from benchmarks.measure import Figures, median, table, tell
from tasks.core.task import num_batches

ROUNDS = 9
STEPS = 500  # between two evaluations
WARM_UP, TIMED, PARTS = 10, 40, 9
ACCEPTED = 2.0  # percent of the time of the steps

CASES: dict[str, Callable[[bool], Agent]] = {
    "adder on add3x3": lambda records: agents.make(
        "seq2seq_adder", task="add3x3", device="cpu", threads=1, record_diagnostics=records
    ),
    "adding problem, T = 150": lambda records: agents.make(
        "adding_lstm", task=tasks.make("adding_problem"), device="cpu", record_diagnostics=records
    ),
    "parity, 1,000 bits": lambda records: agents.make(
        "parity_lstm",
        task=tasks.make("parity"),
        device="cpu",
        threads=1,
        record_diagnostics=records,
    ),
}


def seconds(agent: Agent, steps: int) -> float:
    """Return the processor's seconds of the second `steps` steps; the first ones warm up."""
    agent.learn(steps)
    begun = time.process_time()
    agent.learn(2 * steps)
    return time.process_time() - begun


def parts(agent: Agent) -> float:
    """Return the time of what is recorded, in percent of the steps between two recordings.

    At the last stage, where both are slowest.
    """
    config, task = agent.config, agent.task
    agent.state.cursor.stage = task.num_stages - 1
    agent.learn(WARM_UP)
    before = agent.state.seconds
    agent.learn(WARM_UP + TIMED)
    step = (agent.state.seconds - before) / TIMED
    batch = task.samples("validation", config.eval_samples)
    own, norms = [], []
    for _ in range(PARTS):
        begun = time.process_time()
        monitoring.training_diagnostics(agent, batch)
        own.append(time.process_time() - begun)
        begun = time.process_time()
        monitoring.gradient_norms(agent.model, 1.0)
        norms.append(time.process_time() - begun)
    every = config.eval_every or num_batches(task, config.batch_size)
    between = every * math.ceil(monitoring.SAMPLES_BETWEEN_DIAGNOSTICS / config.batch_size / every)
    return 100 * (median(own) / between + median(norms) / config.log_every) / step


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Time both sides in turn; `steps` in place of 500 is for a quick trial."""
    return {name: _compare(make, rounds, steps or STEPS) for name, make in CASES.items()}


def _compare(make: Callable[[bool], Agent], rounds: int, steps: int) -> Figures:
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for on in (True, False) if number % 2 else (False, True):
            times[on].append(seconds(make(on), steps))
    ratios = [on / off for on, off in zip(times[True], times[False], strict=True)]
    tell(f"{rounds} rounds: {100 * (median(ratios) - 1):+.1f} %")
    return {
        "us_per_step": 1e6 * median(times[False]) / steps,
        "parts_percent": parts(make(False)),
        "percent": 100 * (median(ratios) - 1),
        "accepted_percent": ACCEPTED,
        "ratios": ratios,
    }


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    head = ["recording for the doctor", "µs/step", "more", "the parts", "accepted"]
    return table(
        head,
        [
            [
                name,
                f"{f['us_per_step']:.0f}",
                f"{f['percent']:+.1f} %",
                f"{f['parts_percent']:.1f} %",
                f"≤ {f['accepted_percent']:.0f} %",
            ]
            for name, f in figures.items()
        ],
    )
