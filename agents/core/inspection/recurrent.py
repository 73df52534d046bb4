"""The views that every recurrent agent has: it says what its layers read, and the rest follows.

An agent makes a `Study` of some samples; the functions of `visualization.recurrent` do the work.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.inspection.study import Part, Study, intervene
from tasks.core.task import Row, Task
from visualization.recurrent import (
    ActivationPatching,
    Automaton,
    CellTrace,
    GateSaturation,
    Intervention,
    Matches,
    ProbeTable,
    StatePaths,
    UnitMatch,
    UnitRanking,
    UnitRoles,
    UnitTextHeatmap,
    classify_units,
    correlate_units,
    extract_automaton,
    find_matches,
    gate_saturation,
    layer_heatmap,
    match_units,
    patch_units,
    probe_states,
    rank_units,
    state_paths,
)

NUM_SAMPLES = 2000  # of every view but the overlay
NUM_SHOWN = 100  # samples of the overlay: with all their gates they make a page of some megabytes
NUM_PATHS = 300


class RecurrentViews:
    """The inspections of one agent, which share the answers and traces that they look at."""

    def __init__(self, study: Callable[[Any], Study], task: Task) -> None:
        self._make, self._task = study, task

    def by_name(self) -> dict[str, Callable[[], Any]]:
        """Return each view: a function without arguments that returns a record for each part."""
        return {
            "ablation": self.ablation,
            "cells": self.cells,
            "roles": self.roles,
            "probes": self.probes,
            "gates": self.gates,
            "patching": self.patching,
            "intervention": self.intervention,
            "matches": self.matches,
            "paths": self.paths,
        }

    def _rows_of_task(self) -> list[Row]:
        batch = self._task.samples("test", 2)
        return self._task.rows(batch[1], batch)

    @functools.cached_property
    def _study(self) -> Study:
        return self._make(self._task.samples("test", NUM_SAMPLES))

    def _rows(self) -> list[tuple[str, Part, CellTrace, int]]:
        """Return name, part, trace and row of every layer and direction."""
        found = []
        for part in self._study.parts:
            trace = self._study.traces[part.name]
            for row in range(len(trace.h)):
                name = part.name if len(trace.h) == 1 else f"{part.name}, {trace.layer_name(row)}"
                found.append((name, part, trace, row))
        return found

    def _activity(self, trace: CellTrace, row: int) -> Tensor:
        """Return what a unit holds: c where there is one, else h (N, T, U)."""
        return trace.h[row] if trace.c is None else trace.c[row]

    def _bounded(self, trace: CellTrace, row: int) -> Tensor:
        """Return what a unit holds in [-1, 1]: tanh(c) where there is a c, else h (N, T, U)."""
        return trace.h[row] if trace.c is None else torch.tanh(trace.c[row])

    def roles(self) -> dict[str, UnitRoles]:
        """Global or local: what each unit's state depends on."""
        return self._roles

    @functools.cached_property
    def _roles(self) -> dict[str, UnitRoles]:
        return {
            name: classify_units(self._activity(trace, row), part.symbols)
            for name, part, trace, row in self._rows()
        }

    @functools.cached_property
    def _ranked(self) -> dict[str, UnitRanking]:
        found = {}
        for name, part, trace, row in self._rows():
            layer, direction = divmod(row, trace.num_directions)
            found[name] = rank_units(part.layer, part.score, layer=layer, direction=direction)
        return found

    def ablation(self) -> dict[str, UnitRanking]:
        """How much each unit is needed."""
        return self._ranked

    def probes(self) -> dict[str, ProbeTable]:
        """What the state holds, and when; nothing where nothing is known of the text."""
        return {
            name: probe_states(trace.state(row), part.quantities, units=_unit_names(trace))
            for name, part, trace, row in self._rows() if part.quantities
        }  # fmt: skip

    def gates(self) -> dict[str, GateSaturation]:
        """How often gates are shut or open; nothing for layers that have none."""
        return {
            name: gate_saturation(trace, layer_index=row)
            for name, _, trace, row in self._rows() if trace.gates
        }  # fmt: skip

    def paths(self) -> dict[str, StatePaths]:
        """The way of the state through its two principal components, by what explains it best.

        Where nothing is known of the text, by the time step.
        """
        found = {}
        for name, part, trace, row in self._rows():
            states = trace.h[row][:NUM_PATHS]
            steps = np.broadcast_to(np.arange(float(states.shape[1])), states.shape[:2])
            known = part.quantities or {"time step": steps}
            color = _most_telling(states, known)
            found[name] = state_paths(
                states, color, known[color][:NUM_PATHS], min(2, states.shape[2])
            )
        return found

    def patching(self) -> dict[str, ActivationPatching]:
        """What each unit of the first part carries over to the answer after all that it reads."""
        study, found = self._study, {}
        last = study.parts[-1]
        named = last.writes is not None and last.place != ""
        for name, part, trace, row in self._rows():
            if part is study.parts[0]:
                layer, direction = divmod(row, trace.num_directions)
                found[name] = patch_units(
                    part.layer, lambda: study.write()[0], part.reads.shape[1] - 1,
                    positions=last.places if named else None,
                    position_name=last.place if named else "position in the answer",
                    layer=layer, direction=direction, tolerance=study.tolerance,
                )  # fmt: skip
        return found

    def automaton(self) -> dict[str, Automaton]:
        """The smallest machine that answers as the agent does, where it answers at every step."""
        with torch.inference_mode():
            return {
                part.name: extract_automaton(part.layer, part.inputs, part.reads, part.outputs)
                for part in self._study.parts
                if part.inputs is not None
            }

    def intervention(self) -> Intervention:
        """The first sum with the state of the second: everything that was read, in one place."""
        texts = [row.question for row in self._rows_of_task()]
        return intervene(self._make, self._task, texts[0], donor=texts[1])

    def matches(self) -> dict[str, Matches]:
        """Where the units of the first sample's middle steps are on together elsewhere."""
        return {
            name: find_matches(
                self._bounded(trace, row).cpu(),
                0,
                *_middle(trace),
                symbols=part.symbols if part.signs is None else part.signs,
            )
            for name, part, trace, row in self._rows()
        }

    def cells(self) -> UnitTextHeatmap:
        """Each unit's activity on the characters that are read and written."""
        parts = [
            layer_heatmap(
                name, trace.first(NUM_SHOWN), part.reads[:NUM_SHOWN],
                None if part.writes is None else part.writes[:NUM_SHOWN],
                self._facts(name, part, trace, row), row,
            )
            for name, part, trace, row in self._rows()
        ]  # fmt: skip
        labels, right = self._study.labels[:NUM_SHOWN], self._study.right[:NUM_SHOWN]
        return UnitTextHeatmap(self._study.title, tuple(parts), tuple(labels), right)

    def _facts(self, name: str, part: Part, trace: CellTrace, row: int) -> dict[str, Any]:
        """Return what the table beside the overlay says of each unit."""
        activity = self._activity(trace, row)
        roles = self._roles[name]
        change = next(iter(self._ranked[name].change.values()))
        facts: dict[str, Any] = {"needed": (-change).round(3)}
        if part.quantities:
            end = 0 if row % trace.num_directions else activity.shape[1] - 1
            correlations = correlate_units(activity, part.quantities)
            facts["follows"] = _followed(correlations[:, [end, -1]], part.quantities)
        facts["kind"] = np.array(roles.kinds)
        facts["position"], facts["character"] = roles.shares[:, :2].round(2).T
        return facts


Watched = tuple[Callable[[Any], Study], Task]


def match_studies(first: Watched, second: Watched, names: tuple[str, str]) -> dict[str, UnitMatch]:
    """Match the units of two agents' parts of one name at the same places of the same questions."""
    task = first[1].viewed
    batch = task.samples("test", NUM_SAMPLES)
    questions = [row.question for row in task.rows(batch[1], batch)]
    studies = [make(own.viewed.encode(questions)) for make, own in (first, second)]
    found = {}
    for a, b in itertools.product(*(study.parts for study in studies)):
        if a.name != b.name:
            continue
        pair = zip(studies, (a, b), strict=True)
        (x, at_x), (y, at_y) = (_in_place(study.traces[part.name], part) for study, part in pair)
        size = min(x.shape[1], y.shape[1])
        defined = at_x[:, :size] & at_y[:, :size]
        found[a.name] = match_units(x[:, :size], y[:, :size], defined=defined, names=names)
    return found


def _in_place(trace: CellTrace, part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the hidden states of all layers in the order of their places, and which there are."""
    states = torch.cat(list(trace.h), dim=-1).cpu().numpy()
    places = part.places
    moved = np.zeros((len(states), places.max() + 1, states.shape[2]), states.dtype)
    there = np.zeros(moved.shape[:2], bool)
    samples, steps = np.nonzero(places >= 0)
    moved[samples, places[samples, steps]] = states[samples, steps]
    there[samples, places[samples, steps]] = True
    return moved, there


def _unit_names(trace: CellTrace) -> list[str]:
    """Return a name for each number of `trace.state()`: h0, h1 and so on, then c0, c1."""
    kinds = ["h"] if trace.c is None else ["h", "c"]
    return [f"{kind}{unit}" for kind in kinds for unit in range(trace.h.shape[-1])]


def _followed(correlations: NDArray[Any], quantities: Iterable[str]) -> NDArray[np.str_]:
    """Return for each unit the quantity it goes with best, at the last step or over all steps.

    `correlations` are (Q, 2, U): after the last step that is read, and over all steps.
    """
    names = list(quantities)
    found = np.nan_to_num(correlations)
    words = []
    for unit in range(found.shape[2]):
        row, column = np.unravel_index(np.abs(found[..., unit]).argmax(), found.shape[:2])
        when = ", end" if column == 0 else ""
        words.append(f"{found[row, column, unit]:+.2f} {names[row]}{when}")
    return np.array(words)


def _most_telling(states: Tensor, quantities: Mapping[str, NDArray[Any]]) -> str:
    """Return the quantity that explains most of the units' variance over all steps."""
    shown = {name: values[: len(states)] for name, values in quantities.items()}
    explained = np.nan_to_num(correlate_units(states, shown)[:, -1] ** 2).mean(axis=1)
    return list(shown)[int(explained.argmax())]


def _middle(trace: CellTrace) -> tuple[int, int]:
    """Return first and last + 1 of the two steps in the middle."""
    half = trace.h.shape[2] // 2
    return max(0, half - 1), half + 1
