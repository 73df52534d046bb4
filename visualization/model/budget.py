"""Budget of a loss landscape: how much goes into a model, and how many points that allows."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from visualization.core.preserve import hooks

LEAST_POINTS, MOST_POINTS = 11, 21  # along an axis of a plane
_NUMBERS = 2**26  # that go into a model at all points of a plane


@contextlib.contextmanager
def count_inputs(model: nn.Module) -> Iterator[list[int]]:
    """Give a list of how many numbers go into each pass of a model within a block."""
    counts: list[int] = []

    def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        counts.append(sum(each.numel() for each in inputs if isinstance(each, Tensor)))

    with hooks([model.register_forward_pre_hook(count)]):
        yield counts


def points_per_axis(numbers: int) -> int:
    """Return how many points an axis has, an odd number, by the numbers that one point takes."""
    fitting = math.isqrt(_NUMBERS // max(numbers, 1))
    return min(MOST_POINTS, max(LEAST_POINTS, fitting - 1 + fitting % 2))


def report_progress(
    points: Iterator[None], num: int, progress: Callable[[str], None] | None
) -> Iterator[None]:
    """Yield points, and report each as it begins."""
    for number, point in enumerate(points, start=1):
        if progress:
            progress(f"point {number} of {num}")
        yield point
