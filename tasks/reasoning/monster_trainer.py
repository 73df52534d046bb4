"""Monster trainer: the least cost of reaching a level by fighting monsters, a dynamic programme.

There is a monster of every level from 1 on, at a place of its own on a map; the trainer begins as
level 0. To fight monster j as level i < j costs (j - i) times the L1 distance from monster i, and
makes the trainer level j. What does it cost at least to be of the asked level? The path of least
cost has 3 to 7 edges, equally often each (Xu et al. 2020, 1905.13211, section 4.3).

>>> from tasks.reasoning.monster_trainer import MonsterTrainer
>>> task = MonsterTrainer()
>>> batch = task.encode(["0,0 0,3 0,5 9,9 -> 2"])  # places of levels 0 to 3; to be of level 2
>>> task.decode(batch.target)  # by level 1: 1 · 3 + 1 · 2; at once: 2 · 5
['5']
>>> [round(number, 1) for number in batch.objects[0, 0].tolist()]  # x, y, level, asked level
[0.0, 3.0, 1.0, 2.0]
"""

import math
import re
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.hashing import mix64
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, SetTargets, SetToTarget, Split
from tasks.reasoning.base import (
    LARGEST,
    PREFIXES,
    Draws,
    Sample,
    Target,
    check_size,
    fingerprint,
    integer,
    whole_numbers,
)
from tasks.reasoning.paths import PathProblems, PathTask

_PLACE = re.compile(r"(-?\w+),(-?\w+)")
_EDGE = 1024  # a cost in this unit leaves room to count edges


@attrs.frozen(kw_only=True)
class MonsterTrainer(PathTask):
    """Monster trainer: least cost of a path through levels on a map, a dynamic programme.

    Objects are in a random order. Inputs to a network are place, level and asked level, scaled so
    that the largest in training is 10 (by default: as they are, as in the paper's code). Of paths
    with the least cost the one with the fewest edges counts.
    """

    num_train: int = setting(60_000, "training samples: the first ones of any larger number", ge=1)
    num_validation: int = setting(6_000, "validation samples", ge=1)
    num_test: int = setting(6_000, "test samples", ge=1)
    max_level: int = setting(10, "level of the strongest monster", ge=1, le=200)
    map_size: int = setting(10, "largest coordinate; the smallest is 0", ge=1, le=1000)
    min_edges: int = setting(3, "edges of the shortest paths", ge=1)
    max_edges: int = setting(7, "edges of the longest paths", ge=1)
    test_max_level: int | None = setting(
        None, "level of the strongest monster in the test split; null: as in training", ge=1, le=200
    )
    test_map_size: int | None = setting(
        None, "largest coordinate in the test split; null: as in training", ge=1, le=1000
    )
    test_min_edges: int | None = setting(
        None, "edges of the shortest paths of the test split; null: as in training", ge=1
    )
    test_max_edges: int | None = setting(
        None, "edges of the longest paths of the test split; null: as in training", ge=1
    )
    target: Target = setting(
        "label", "whether the answer is a label, one for each possible cost, or a number"
    )

    def __attrs_post_init__(self) -> None:
        """Refuse maps with too few places, and paths with more edges than there are levels."""
        for prefix, split in PREFIXES:
            level, width = (self.setting_in(name, split) for name in ("max_level", "map_size"))
            low, high = (self.setting_in(f"{end}_edges", split) for end in ("min", "max"))
            if (width + 1) ** 2 <= level:
                problem = f"{width} has no room for {level + 1} objects"
                accepted = f"at least {math.isqrt(level)}"
                raise ConfigError(self.name, f"{prefix}map_size", problem, accepted)
            if low > high:
                field, problem = f"{prefix}min_edges", f"{low} is above {high}"
                raise ConfigError(self.name, field, problem, f"at most {high}")
            if high > level:
                problem = f"paths of {high} edges among {level} monsters"
                raise ConfigError(self.name, f"{prefix}max_edges", problem, f"at most {level}")

    @property
    def spec(self) -> SetToTarget:
        """Four features, and a label for each cost, or a number."""
        sizes = [
            self.setting_in("max_level", split) * self.setting_in("map_size", split)
            for split in SPLITS
        ]
        labels = tuple(map(str, range(max(sizes) * 2 + 1))) if self.target == "label" else None
        scales = self.map_size, self.max_level
        return SetToTarget(4, labels, 2, scales=scales, size=self.largest("max_level") + 1)

    @property
    def scale(self) -> float:
        """About the largest cost in training."""
        return float(self.max_level * self.map_size)

    @property
    def num_drawn(self) -> int:
        """Many, as one in a thousand has a path of seven edges."""
        return 20_000

    def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
        """Draw places by level (num, n, 2), of which some may be the same, and the asked level.

        A level below the fewest edges is not asked, as no such path leads to it. The class is the
        number of edges beyond the fewest; -1 beyond the most, or on a bad map.
        """
        level, width = (self.setting_in(name, split) for name in ("max_level", "map_size"))
        places = rng.integers(0, width + 1, (num, level + 1, 2), np.int64)
        low, high = (self.setting_in(f"{end}_edges", split) for end in ("min", "max"))
        asked = rng.integers(low, level + 1, (num, 1), np.int64)
        costs, edges, least_apart = least_costs_by_level(places)
        cost, length = (np.take_along_axis(each, asked, axis=1)[:, 0] for each in (costs, edges))
        is_one = (length >= low) & (length <= high) & (least_apart > 0)
        return Draws((places, asked), cost, np.where(is_one, length - low, -1))

    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return the least costs (num,)."""
        places, asked = sample
        return np.take_along_axis(least_costs_by_level(places)[0], asked, axis=1)[:, 0]

    def arrays(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], None]:
        """Return objects (num, n, 4) and the mask. Their order is random: that of a hash."""
        places, asked = sample
        num, size = places.shape[:2]
        levels = np.broadcast_to(np.arange(size)[:, None], (num, size, 1))
        every = np.broadcast_to(asked[:, None], (num, size, 1))
        objects = np.concatenate([places, levels, every], axis=-1)
        key = mix64(fingerprint(sample)[:, None] ^ np.arange(size, dtype=np.uint64))
        objects = np.take_along_axis(objects, key.argsort(axis=1)[..., None], axis=1)
        return (objects * self._factors).astype(np.float32), np.ones((num, size), bool), None

    @property
    def _factors(self) -> NDArray[np.float64]:
        return LARGEST / np.array([self.map_size] * 2 + [self.max_level] * 2)

    def sample_of(self, objects: NDArray[Any]) -> Sample:
        """Return the sample of objects without padding (num, n, 4)."""
        numbers = whole_numbers(objects / self._factors)
        order = numbers[..., 2:3].argsort(axis=1)
        return np.take_along_axis(numbers[..., :2], order, axis=1), numbers[:, 0, 3:]

    def problems(self, batch: SetTargets) -> PathProblems:
        """Return the costs of fights as weights; the kind of an object is its level."""
        numbers = whole_numbers(np.asarray(batch.objects) / self._factors)
        places, level, asked = numbers[..., :2], numbers[..., 2], numbers[:, 0, 3]
        mask = np.asarray(batch.mask)
        apart = np.abs(places[:, :, None] - places[:, None]).sum(axis=-1)
        upwards = np.maximum(level[:, None] - level[:, :, None], 0)  # from i to j at [i, j]
        weights = apart * upwards * (mask[:, :, None] & mask[:, None])
        own = np.where(mask, level, -1)
        ends = [(own == each[:, None]).argmax(axis=1) for each in (np.zeros_like(asked), asked)]
        return PathProblems(weights=weights, source=ends[0], last=ends[1], kinds=level)

    def read(self, text: str) -> Sample:
        """Return the sample of a text such as `0,0 0,3 0,5 -> 2`."""
        left, _, right = text.partition("->")
        matches = [_PLACE.fullmatch(word) for word in left.split()]
        found = [match.groups() for match in matches if match]
        if len(found) != len(matches):
            raise ValueError("is not a map", "text such as 0,0 0,3 0,5 -> 2")
        check_size(len(found), 2, self.spec.size, "places")
        width = self.largest("map_size")
        places = [tuple(integer(word, "coordinate", 0, width) for word in pair) for pair in found]
        if len(set(places)) < len(places):
            raise ValueError("two levels are at the same place", "places of their own")
        asked = integer(right.strip(), "asked level", 1, len(found) - 1)
        return np.array([places], np.int64), np.array([[asked]], np.int64)

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each map as text, and the asked level."""
        texts = []
        for objects, mask in zip(batch.objects, np.asarray(batch.mask), strict=True):
            (places,), ((asked,),) = self.sample_of(np.asarray(objects)[mask][None])
            words = " ".join(f"{x},{y}" for x, y in places.tolist())
            texts.append((f"{words} -> {asked}", f"{len(places)} places, to level {asked}"))
        return texts


def least_costs_by_level(
    places: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the least cost of each level and its edges (num, n), and the least distance (num,).

    Of places by level (num, n, 2). Paths go upwards, so that one pass over the levels does it.
    """
    x, y = (np.ascontiguousarray(column, np.int32) for column in np.moveaxis(places, -1, 0).mT)
    best = [np.zeros_like(x[0])]
    least_apart = np.full_like(x[0], np.iinfo(np.int32).max)
    for level in range(1, len(x)):
        for below in range(level):
            apart = np.abs(x[level] - x[below]) + np.abs(y[level] - y[below])
            np.minimum(least_apart, apart, out=least_apart)
            path = best[below] + apart * ((level - below) * _EDGE) + 1
            if below:
                np.minimum(best[level], path, out=best[level])
            else:
                best.append(path)
    cost, edges = np.divmod(np.stack(best, axis=1), _EDGE)
    return cost.astype(np.int64), edges.astype(np.int64), least_apart.astype(np.int64)
