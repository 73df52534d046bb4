"""Views of recurrent layers: cells, gates, probes, ablation, patching, automata."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.inspection.observation import Observation, RecurrentPart, intervene
from agents.core.inspection.views import Views, view
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


class RecurrentViews(Views):
    """The inspections that need recurrent layers; they share answers and traces."""

    @functools.cached_property
    def _observation(self) -> Observation:
        return self._observe(self._shown_task.samples("test", NUM_SAMPLES))

    @property
    def _shown_task(self) -> Task:
        """The task with questions that a person can look at."""
        return self._task.for_display()

    def _rows_of_task(self) -> list[Row]:
        batch = self._shown_task.samples("test", 2)
        return self._shown_task.rows(self._shown_task.targets(batch), batch)

    def _rows(self) -> list[tuple[str, RecurrentPart, CellTrace, int]]:
        """Return name, part, trace and row of every layer and direction."""
        found = []
        for part in self._observation.recurrent:
            trace = self._observation.traces[part.name]
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

    @view("recurrent")
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

    @view("recurrent")
    def ablation(self) -> dict[str, UnitRanking]:
        """How much each unit is needed."""
        return self._ranked

    @view("recurrent")
    def probes(self) -> dict[str, ProbeTable]:
        """What the state holds, and when; nothing where nothing is known of the text."""
        return {
            name: probe_states(trace.state(row), part.quantities, units=_unit_names(trace))
            for name, part, trace, row in self._rows() if part.quantities
        }  # fmt: skip

    @view("recurrent")
    def gates(self) -> dict[str, GateSaturation]:
        """How often gates are shut or open; nothing for layers that have none."""
        return {
            name: gate_saturation(trace, layer_index=row)
            for name, _, trace, row in self._rows() if trace.gates
        }  # fmt: skip

    @view("recurrent")
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

    @view("recurrent", "answers")
    def patching(self) -> dict[str, ActivationPatching]:
        """What each unit of the first part carries over to the answer after all that it reads."""
        observation, found = self._observation, {}
        last = observation.recurrent[-1]
        named = last.writes is not None and last.place != ""
        for name, part, trace, row in self._rows():
            if part is observation.recurrent[0]:
                layer, direction = divmod(row, trace.num_directions)
                found[name] = patch_units(
                    part.layer, lambda: observation.answer()[0], part.reads.shape[1] - 1,
                    positions=last.places if named else None,
                    position_name=last.place if named else "position in the answer",
                    layer=layer, direction=direction, tolerance=observation.tolerance,
                )  # fmt: skip
        return found

    @view("step answers")
    def automaton(self) -> dict[str, Automaton]:
        """The smallest machine that answers as the agent does, where it answers at every step."""
        with torch.inference_mode():
            return {
                part.name: extract_automaton(part.layer, part.inputs, part.reads, part.outputs)
                for part in self._observation.recurrent
                if part.inputs is not None
            }

    @view("recurrent", "answers")
    def intervention(self) -> Intervention:
        """The first sum with the state of the second: everything that was read, in one place."""
        texts = [row.question for row in self._rows_of_task()]
        return intervene(self._agent.observe, self._shown_task, texts[0], donor=texts[1])

    @view("recurrent")
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

    @view("recurrent")
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
        labels, right = self._observation.labels[:NUM_SHOWN], self._observation.correct[:NUM_SHOWN]
        return UnitTextHeatmap(self._observation.title, tuple(parts), tuple(labels), right)

    def _facts(self, name: str, part: RecurrentPart, trace: CellTrace, row: int) -> dict[str, Any]:
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


Watched = tuple[Callable[[Any], Observation], Task]


def match_agents(first: Watched, second: Watched, names: tuple[str, str]) -> dict[str, UnitMatch]:
    """Match the units of two agents' parts of one name at the same places of the same questions."""
    task = first[1].for_display()
    batch = task.samples("test", NUM_SAMPLES)
    questions = [row.question for row in task.rows(task.targets(batch), batch)]
    seen = [
        make(batch if own.for_display() == task else own.for_display().encode(questions))
        for make, own in (first, second)
    ]
    found = {}
    for a, b in itertools.product(*(each.recurrent for each in seen)):
        if a.name != b.name:
            continue
        pair = zip(seen, (a, b), strict=True)
        (x, at_x), (y, at_y) = (_in_place(each.traces[part.name], part) for each, part in pair)
        size = min(x.shape[1], y.shape[1])
        defined = at_x[:, :size] & at_y[:, :size]
        found[a.name] = match_units(x[:, :size], y[:, :size], defined=defined, names=names)
    return found


def _in_place(trace: CellTrace, part: RecurrentPart) -> tuple[NDArray[Any], NDArray[np.bool_]]:
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
