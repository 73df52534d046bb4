"""A step of every agent beside one busy process, over the same step on a quiet machine.

Both sides take turns: a child process that is always busy is started before the one, and stopped
before the other. Each agent runs as it is by default, on the task that the docs show it with.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Iterator

import agents
from agents.core.agent import Agent
from benchmarks.measure import Figures, median, table, tell

ROUNDS = 5
SECONDS = 2.0  # of learning, about, of one side in one round
ACCEPTED = 2.3  # times the quiet step
TASKS = {
    "seq2seq_adder": "add3x3",
    "attention_adder": "add3x3",
    "transformer_adder": "add3x3",
    "parity_lstm": "parity",
    "adding_lstm": "adding_problem",
    "digits_lstm": "digits",
    "cnn_classifier": "digits",
    "char_lm": "text",
}


def _count() -> None:
    while True:
        pass


@contextlib.contextmanager
def busy(others: int) -> Iterator[None]:
    """Keep `others` other processes busy within a block."""
    children = [multiprocessing.get_context("spawn").Process(target=_count) for _ in range(others)]
    for child in children:
        child.start()
    time.sleep(0.5 if others else 0.0)  # until the children run
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.join()


def _seconds(agent: Agent, steps: int) -> float:
    """Return the seconds of `steps` more steps, of which the last evaluates."""
    before = agent.state.cursor.step
    begun = time.perf_counter()
    agent.learn(before + steps)
    return time.perf_counter() - begun


def measure_agent(name: str, rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the median milliseconds of a step on both sides, and the median of their ratios.

    `steps` of one side; 0: as many as take about two seconds.
    """
    agent = agents.make(
        name,
        task=TASKS[name],
        device="cpu",
        eval_samples=1,
        record_diagnostics=False,
        target_score=None,
    )
    first = 10
    _seconds(agent, first)
    num = steps or max(first, int(SECONDS * first / _seconds(agent, first)))
    sides: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds):
        for others in (0, 1) if number % 2 else (1, 0):
            with busy(others):
                sides[others].append(1e3 * _seconds(agent, num) / num)
    return {
        "threads": agent.state.threads,
        "quiet_ms": median(sides[0]),
        "busy_ms": median(sides[1]),
        "ratio": median(b / q for b, q in zip(sides[1], sides[0], strict=True)),
    }


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the figures of every agent."""
    figures: Figures = {}
    for name in TASKS:
        figures[name] = measure_agent(name, rounds, steps)
        tell(f"{name}: {figures[name]['ratio']:.2f} times the quiet step")
    return figures


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    head = ["a step beside one busy process", "threads", "quiet, ms", "busy, ms", "ratio"]
    rows = [
        [
            name,
            str(f["threads"]),
            f"{f['quiet_ms']:.1f}",
            f"{f['busy_ms']:.1f}",
            f"{f['ratio']:.2f}",
        ]
        for name, f in figures.items()
    ]
    return table(head, [*rows, ["accepted", "", "", "", f"≤ {ACCEPTED}"]])
