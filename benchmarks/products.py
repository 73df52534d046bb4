"""Training beside the limit of the machine: the matrix products of the same step, and nothing else.

A roofline (Williams, Waterman and Patterson 2009) of one number: the rate of `torch.mm` at the very
shapes, threads and precision of the step, and in its order of magnitude of repetitions. What is
left of the step are gates, softmax, the optimiser, and the drawing of batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

import agents
from agents.core.training import devices, parallel
from benchmarks.measure import Figures, median, median_ratio, seconds, table, tell
from benchmarks.shapes import Product, flops, linear_products, lstm_products, multiply_all
from benchmarks.steps import seconds_of_windows

ROUNDS = 7
STEPS = 10  # in a window; the two sides take turns
ACCEPTED = 0.6  # share of the step that the products are
WARM = 5
_ADAM: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3}


class Case(NamedTuple):
    """An agent with its settings, and the products of a step of some of its batch."""

    agent: str
    task: str
    settings: dict[str, Any]
    products: Callable[[Any, int], list[Product]]


def _of_adder(agent: Any, batch: int) -> list[Product]:
    spec, hidden = agent.task.spec, agent.config.hidden_size
    codes = len(spec.characters)
    return [
        *lstm_products(batch, spec.question_length, codes, hidden),
        *lstm_products(batch, spec.answer_length, codes, hidden),
        *linear_products(batch * spec.answer_length, hidden, codes),
    ]


def _of_language_model(agent: Any, batch: int) -> list[Product]:
    hidden, codes = agent.config.hidden_size, len(agent.task.spec.characters)
    time = agent.task.samples("train", 1).text.shape[1]
    products = lstm_products(batch, time, codes, hidden)
    return [*products, *linear_products(batch * time, hidden, codes)]


CASES = {
    "adder, 128 units": Case("seq2seq_adder", "add3x3", _ADAM, _of_adder),
    "adder, 128 units, its own recipe": Case("seq2seq_adder", "add3x3", {}, _of_adder),
    "adder, 512 units": Case("seq2seq_adder", "add3x3", {**_ADAM, "hidden_size": 512}, _of_adder),
    "language model, 192 units": Case("char_lm", "text", _ADAM, _of_language_model),
}


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return for each case the milliseconds of a step and of its products, and the share."""
    return {name: _compare(name, case, rounds, steps or STEPS) for name, case in CASES.items()}


def _compare(name: str, case: Case, rounds: int, num: int) -> Figures:
    agent: Any = agents.make(
        case.agent, task=case.task, device="cpu", steps=10**6, record_diagnostics=False,
        **case.settings,
    )  # fmt: skip
    parts = agent.num_parts(agent.state.threads)
    products = case.products(agent, agent.config.batch_size // parts)
    dtype = torch.bfloat16 if agent.state.precision == "bf16" else torch.float32
    windows = seconds_of_windows(agent, WARM, num)
    limits = _products_alone(products, parts, agent.state.threads, dtype, num)
    rounds_of = [(next(windows), next(limits)) for _ in range(rounds + 1)][1:]
    step, limit = ([pair[side] for pair in rounds_of] for side in (0, 1))
    windows.close()  # type: ignore[attr-defined]
    share = median_ratio(limit, step)
    tell(f"{name}: {100 * share:.0f} % of the matrix products' rate")
    return {
        "threads": agent.state.threads,
        "parts": parts,
        "precision": agent.state.precision,
        "batch": agent.config.batch_size,
        "step_ms": 1e3 * median(step) / num,
        "products_ms": 1e3 * median(limit) / num,
        "gflops_of_products": 1e-9 * flops(products) * parts * num / median(limit),
        "share": share,
    }


def _products_alone(
    products: Sequence[Product], parts: int, threads: int, dtype: torch.dtype, num: int
) -> Iterator[float]:
    """Yield the seconds of the products of `num` steps, in as many threads as the step has."""
    runs = [multiply_all(products, dtype) for _ in range(parts)]

    def run(multiply: Callable[[], None]) -> None:
        for _ in range(num):
            multiply()

    while True:
        with devices.threads(parallel.threads_each(threads, parts)):
            taken = seconds(lambda: parallel.map_threads(run, runs))
        yield taken


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [
            name, f"{f['precision']}, {f['threads']}", f"{f['step_ms']:.2f}",
            f"{f['products_ms']:.2f}", f"{f['gflops_of_products']:.0f}", f"{f['share']:.0%}",
        ]
        for name, f in figures.items()
    ]  # fmt: skip
    head = ["a training step", "precision, threads", "ms", "ms of its products",
            "GFLOP/s of these", "share"]  # fmt: skip
    return f"{table(head, rows)}\naccepted: ≥ {100 * ACCEPTED:.0f} %"
