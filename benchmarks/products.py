"""Training beside the limit of the machine: the rate of its matrix products at the same shapes.

A roofline (Williams, Waterman and Patterson 2009) of one number. Each product of a step, there and
back, is repeated alone by `torch.mm`, in the threads and the precision of the step; the limit
is the rate of the fastest of them. The share is the rate of the whole step over that: what is lost
is gates, softmax, slower shapes, the optimiser, and the drawing of batches.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

import agents
from agents.core.training import devices, parallel
from benchmarks.measure import Figures, median, median_ratio, seconds, table, tell
from benchmarks.shapes import Product, flops, linear_products, lstm_products, multiplication
from benchmarks.steps import seconds_of_windows

ROUNDS = 7
STEPS = 10  # in a window; the two sides take turns
ACCEPTED = 0.6  # share of the limit
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
    time = next(iter(agent.task.batches("train", batch, 0, 0))).text.shape[1]  # of a chunk
    products = lstm_products(batch, time, codes, hidden)
    return [*products, *linear_products(batch * time, hidden, codes)]


CASES = {
    "adder, 128 units": Case("seq2seq_adder", "add3x3", _ADAM, _of_adder),
    "adder, 128 units, its own recipe": Case("seq2seq_adder", "add3x3", {}, _of_adder),
    "adder, 512 units": Case("seq2seq_adder", "add3x3", {**_ADAM, "hidden_size": 512}, _of_adder),
    "language model, 192 units": Case("char_lm", "text", _ADAM, _of_language_model),
}


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return for each case the milliseconds of a step, its rate and the limit, and the share."""
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
    limits = _fastest(products, parts, agent.state.threads, dtype, num)
    rounds_of = [(next(windows), next(limits)) for _ in range(rounds + 1)][1:]
    step, limit = ([pair[side] for pair in rounds_of] for side in (0, 1))
    windows.close()  # type: ignore[attr-defined]
    work = 1e-9 * flops(products) * parts * num
    rates = [work / taken for taken in step]
    share = median_ratio(rates, limit)
    tell(f"{name}: {share:.0%} of the matrix products' rate")
    return {
        "threads": agent.state.threads,
        "parts": parts,
        "precision": agent.state.precision,
        "batch": agent.config.batch_size,
        "step_ms": 1e3 * median(step) / num,
        "gflops": median(rates),
        "limit_gflops": median(limit),
        "share": share,
    }


def _fastest(
    products: Sequence[Product], parts: int, threads: int, dtype: torch.dtype, num: int
) -> Iterator[float]:
    """Yield the rate (GFLOP/s) of the fastest of the products, in the threads that the step has."""
    copies = [[multiplication(product, dtype) for _ in range(parts)] for product in products]
    while True:
        rates = []
        with devices.threads(parallel.threads_each(threads, parts)):
            for product, runs in zip(products, copies, strict=True):
                run = functools.partial(_run, product.count * num)
                taken = seconds(functools.partial(parallel.map_threads, run, runs))
                rates.append(1e-9 * flops([product]) * parts * num / taken)
        yield max(rates)


def _run(times: int, multiply: Callable[[int], None]) -> None:
    multiply(times)


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [
            name, f"{f['precision']}, {f['threads']}", f"{f['step_ms']:.2f}", f"{f['gflops']:.0f}",
            f"{f['limit_gflops']:.0f}", f"{f['share']:.0%}",
        ]
        for name, f in figures.items()
    ]  # fmt: skip
    head = ["a training step", "precision, threads", "ms", "GFLOP/s", "of its products", "share"]
    return f"{table(head, rows)}\naccepted: ≥ {ACCEPTED:.0%}"
