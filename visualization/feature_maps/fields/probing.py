"""Probed receptive fields: rows and columns that places of a layer read, by trial.

Row by row the exact set is carried back, if all operations are known so well. Otherwise parts of
the image are changed, and divided again and again; as a place that reads none of a part reads none
of what it is divided into, parts that no place reads together are changed in one image.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visualization.feature_maps.fields.axes import Positions
from visualization.feature_maps.fields.graph import Graph
from visualization.feature_maps.fields.influence import dependency_by_graph
from visualization.feature_maps.fields.operations import Shape
from visualization.feature_maps.fields.trials import (
    ProbedUnits,
    exact_kernels,
    replacements,
    units_changed,
)

_PARTS = 4  # into which each part is divided


class Intervals(NamedTuple):
    """The first and the last place that each of N places reads, each (N,).

    An interval that is shorter so continues at the other side, beyond an end; one that reads
    nothing has its last place before its first.
    """

    first: Positions
    last: Positions

    @staticmethod
    def of(table: NDArray[np.bool_]) -> "Intervals":
        """Return the intervals of a relation (N, places)."""
        ends = [_interval(np.flatnonzero(row), table.shape[1]) for row in table]
        return Intervals(*np.array(ends, np.int64).T)


def _interval(positions: Positions, num: int) -> tuple[int, int]:
    """Return the ends of the shortest interval around places 0 to num − 1 that form a ring."""
    if not len(positions):
        return 0, -1
    gaps = np.diff(positions, append=positions[0] + num)
    widest = int(gaps.argmax())
    if gaps[widest] == gaps[-1]:
        return int(positions[0]), int(positions[-1])
    first, last = int(positions[widest + 1]) - num, int(positions[widest])
    beyond = num if first + last < 0 else 0
    return first + beyond, last + beyond


class _Stripe(NamedTuple):
    """Neighbouring rows or columns of an image, and the places of a layer that may read them."""

    first: int
    end: int
    reached: NDArray[np.bool_]

    def divided(self) -> list["_Stripe"]:
        """Return its parts, each of which the same places may read."""
        ends = np.linspace(self.first, self.end, _PARTS + 1).round().astype(int).tolist()
        return [_Stripe(a, b, self.reached) for a, b in itertools.pairwise(ends) if a < b]


def tables(
    model: nn.Module, layer: str | None, graph: Graph
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows each row of a layer's maps reads (h, H), and columns likewise (w, W).

    Args:
        model: in evaluation mode, its parameters without gradients: see `inspection_mode`.
        layer: dotted name; None: the model's output.
        graph: of a pass to the layer.
    """
    rows, columns = _table_by_graph(graph, 2), _table_by_graph(graph, 3)
    if rows is not None and columns is not None:
        return rows, columns
    trial = ProbedUnits.of(model, layer, graph, torch.ones(graph.output.shape, dtype=torch.bool))
    maps = tuple(graph.output.shape[1:])
    with exact_kernels():
        return _probed_table(trial, maps, 1), _probed_table(trial, maps, 2)


def _table_by_graph(graph: Graph, axis: int) -> NDArray[np.bool_] | None:
    """Return which place of a layer's maps reads which of the image, along one axis (2 or 3).

    All counts as read by all if three places read all. None: the graph does not tell.
    """
    if not graph.is_complete:
        return None
    num_out, num_in = graph.output.shape[axis], graph.image.shape[axis]
    table = torch.ones(num_out, num_in, dtype=torch.bool)
    ends_first = [0, num_out // 2, num_out - 1]
    for number, position in enumerate([*ends_first, *range(num_out)]):
        if number == len(ends_first) and table[ends_first].all():
            break
        unit_mask = torch.zeros(graph.output.shape, dtype=torch.bool)
        unit_mask.select(axis, position).fill_(True)
        mask, is_known = dependency_by_graph(graph, unit_mask)
        if not is_known:
            return None
        table[position] = mask.any(0).any(3 - axis)
    return table.numpy()


def _probed_table(trial: ProbedUnits, maps: Shape, axis: int) -> NDArray[np.bool_]:
    """Return which place of maps (U, h, w) reads which of the image, along one axis."""
    parts = _Stripe(0, trial.shape[axis], np.ones(maps[axis], bool)).divided()
    while parts:
        images = _pack_stripes(parts)
        hits = _dependent_positions(trial, maps, axis, images)
        parts = [
            part._replace(reached=part.reached & hit)
            for image, hit in zip(images, hits, strict=True)
            for part in image
        ]
        if all(part.reached.all() or part.end - part.first == 1 for part in parts):
            break
        parts = [small for part in parts if part.reached.any() for small in part.divided()]
    table = np.zeros((maps[axis], trial.shape[axis]), bool)
    for part in parts:
        table[:, part.first : part.end] |= part.reached[:, None]
    return table


def _pack_stripes(parts: list[_Stripe]) -> list[list[_Stripe]]:
    """Return parts in as few images as come easily: in none two that a place may read together."""
    images: list[list[_Stripe]] = []
    for part in parts:
        free = (i for i in images if not any((p.reached & part.reached).any() for p in i))
        image = next(free, None)
        if image is None:
            images.append([part])
        else:
            image.append(part)
    return images


def _dependent_positions(
    trial: ProbedUnits, maps: Shape, axis: int, images: list[list[_Stripe]]
) -> NDArray[np.bool_]:
    """Return for each image which places see a change of its parts (images, places)."""
    numbers = torch.arange(torch.Size(trial.shape).numel()).view(trial.shape).movedim(axis, 0)
    groups = [torch.cat([numbers[p.first : p.end].flatten() for p in image]) for image in images]
    others = [number for number in (1, 2, 3) if number != axis + 1]
    hits = torch.zeros(len(groups), maps[axis], dtype=torch.bool)
    for replacement in replacements(trial):
        for first in range(0, len(groups), trial.num_at_once):
            some = slice(first, first + trial.num_at_once)
            changed = units_changed(trial, replacement, groups[some])
            hits[some] |= changed.view(-1, *maps).any(others[1]).any(others[0])
    return hits.numpy()
