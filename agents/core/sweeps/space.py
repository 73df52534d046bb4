"""Search space of a sweep: choices and ranges of settings, as options describe them."""

import re
from collections.abc import Sequence
from typing import Any

import attrs

from agents.core.config import ConfigError, read_value
from tasks.core.settings import nearest

GRID_FORM = "name=value,value,… such as task.length=150,200,250, each value once"
SEARCH_FORM = (
    "name=low..high, name=low..high:log or name=value,value,… such as learning_rate=1e-4..0.1:log"
)
_SIGNIFICANT = 4  # digits of a number drawn from a range: names of folders stay short


@attrs.frozen
class Choices:
    """A few values, in their order."""

    values: tuple[Any, ...]

    @property
    def corners(self) -> tuple[Any, ...]:
        """The values that are checked before anything runs: all."""
        return self.values


@attrs.frozen
class Range:
    """Numbers from `low` to `high`, both included, evenly spread or so on a log scale."""

    low: float
    high: float
    is_log: bool = False

    @property
    def corners(self) -> tuple[Any, ...]:
        """The values that are checked before anything runs: both ends."""
        return self.low, self.high

    @property
    def is_integer(self) -> bool:
        """Whether both ends are integers, and with them all numbers between."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def rounded(self, value: float) -> float:
        """Return a number of the range with four significant digits, an integer as it is."""
        if self.is_integer:
            return int(value)
        return min(max(float(f"{value:.{_SIGNIFICANT}g}"), self.low), self.high)


Space = dict[str, Choices | Range]


def parse_grid(texts: Sequence[str], place: str = "--grid") -> dict[str, list[Any]]:
    """Parse each `name=value,value,…` of --grid.

    Raises:
        ConfigError: no name with different values, or a name twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, words = _parts(text, place, GRID_FORM)
        grid[_new_name(name, grid, text, place, GRID_FORM)] = _choices(words, text, place)
    return grid


def parse_space(texts: Sequence[str]) -> Space:
    """Parse each `name=low..high`, `name=low..high:log` or `name=value,value,…` of --search.

    >>> parse_space(["learning_rate=1e-4..0.1:log", "cell=lstm,gru"])["learning_rate"]
    Range(low=0.0001, high=0.1, is_log=True)

    Raises:
        ConfigError: a range is empty or not of numbers, or what `parse_grid` refuses.
    """
    space: Space = {}
    for text in texts:
        name, words = _parts(text, "--search", SEARCH_FORM)
        found = re.fullmatch(r"([^,/]*[^,/.])\.\.([^,/.:][^,/:]*)(?::(.*))?", words)
        chosen = _range(found[1], found[2], found[3], text) if found else Choices(
            tuple(_choices(words, text, "--search", SEARCH_FORM))
        )  # fmt: skip
        space[_new_name(name, space, text, "--search", SEARCH_FORM)] = chosen
    return space


def parse_seeds(text: str) -> list[int]:
    """Parse the different seeds of --seeds, such as `0,1,2`; else ConfigError."""
    seeds = [read_value(word.strip()) for word in text.split(",")]
    numbers = [seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool)]
    if len(numbers) < len(seeds) or len(set(numbers)) < len(seeds) or min(numbers) < 0:
        raise ConfigError("--seeds", "", f"{text!r} is not a list of seeds", "such as 0,1,2")
    return numbers


def _parts(text: str, place: str, form: str) -> tuple[str, str]:
    name, equals, words = (part.strip() for part in text.partition("="))
    if not equals or not name or not words:
        problem = f"expected a setting and its values, found {text!r}"
        raise ConfigError(place, "", problem, form)
    return name, words


def _new_name(name: str, names: object, text: str, place: str, form: str) -> str:
    if name in names or name in ("mode", "run_dir"):  # type: ignore[operator] # of a mapping
        raise ConfigError(place, "", f"duplicate setting, or not a setting, in {text!r}", form)
    return name


def _choices(words: str, text: str, place: str, form: str = GRID_FORM) -> list[Any]:
    split = [word.strip() for word in words.split(",")]
    values = [read_value(word) for word in split]
    if "" in split or len(set(map(repr, values))) < len(values):
        raise ConfigError(place, "", f"empty or duplicate value in {text!r}", form)
    return values


def _range(low: str, high: str, scale: str | None, text: str) -> Range:
    ends = [read_value(end.strip()) for end in (low, high)]
    numbers = [e for e in ends if isinstance(e, (int, float)) and not isinstance(e, bool)]
    if len(numbers) < 2 or not numbers[0] < numbers[1] < float("inf"):
        problem = f"{low}..{high} in {text!r} is not a range of numbers"
        raise ConfigError("--search", "", problem, SEARCH_FORM)
    if scale not in (None, "log"):
        hint = nearest(scale, ["log"])
        raise ConfigError("--search", "", f"unknown scale {scale!r} in {text!r}", "log", hint)
    if scale == "log" and numbers[0] <= 0:
        problem = f"{low} in {text!r} is not above 0, so it has no logarithm"
        raise ConfigError("--search", "", problem, SEARCH_FORM)
    return Range(numbers[0], numbers[1], scale == "log")
