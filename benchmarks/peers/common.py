"""What every peer shares; it needs numpy alone, as Keras' environments have no torch."""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]  # the checkout
BENCH = ROOT / ".bench"
DATA = BENCH / "add3x2.npz"
STEPS = 3000  # of a tiny network

Codes = NDArray[np.uint8]


class Sums(NamedTuple):
    """Questions and answers in codes, shapes (samples, characters)."""

    train_question: Codes
    train_answer: Codes
    held_question: Codes
    held_answer: Codes


def parser(description: str, batch: int) -> argparse.ArgumentParser:
    """Return the options that all peers have; `batch` is the peer's own batch size."""
    parse = argparse.ArgumentParser(description=description)
    parse.add_argument("--batch", type=int, default=batch, help="samples in a step")
    parse.add_argument("--limit", type=int, default=0, help="samples to use; 0: all")
    parse.add_argument("--seed", type=int, default=0)
    return parse


def timed_steps(limit: int) -> tuple[int, int]:
    """Return how many steps of a tiny network warm up, and how many are timed; 0: the usual."""
    return max(1, (limit or STEPS) // 10), limit or STEPS


def add_mode(parse: argparse.ArgumentParser) -> None:
    """Add the choice between the two measurements."""
    parse.add_argument("--mode", choices=["throughput", "accuracy"], default="throughput")
    parse.add_argument(
        "--target",
        type=float,
        default=0.99,
        help="share of held-out sums that must be wholly right",
    )


def add_decoder(parse: argparse.ArgumentParser) -> None:
    """Add the choice between the agent's own model and that of Keras' example."""
    parse.add_argument("--decoder", choices=["states", "repeat"], default="states")


def load(limit: int) -> Sums:
    """Return the sums that `benchmarks.data` wrote, at most `limit` of each kind."""
    with np.load(DATA) as arrays:
        return Sums(*(arrays[name][: limit or None] for name in Sums._fields))


def report(**values: Any) -> None:
    """Print the measurement as one line of JSON, the last line of the output."""
    print(json.dumps(values), flush=True)
