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

NUM_SAMPLES = 1000  # of every view but the overlay
NUM_ABLATED = 500  # whose answers are computed again without each unit
NUM_SHOWN, MOST_SHOWN = 100, 1_000_000  # samples of the overlay, and states of units on its page
NUM_PATHS = 300


class RecurrentViews(Views):
    """Views of recurrent layers, which share answers and traces."""

    @functools.cached_property
    def _observation(self) -> Observation:
        return self._observe(self._shown_task.samples("test", NUM_SAMPLES))

    @property
    def _shown_task(self) -> Task:
        """The task with questions that are short enough to display."""
        return self._task.for_display()

    def _rows_of_task(self) -> list[Row]:
        batch = self._shown_task.samples("test", 2)
        return self._shown_task.rows(self._shown_task.targets(batch), batch)

    def _rows(self) -> list[tuple[str, RecurrentPart, CellTrace, int]]:
        """Return name, part, trace and row of every layer and direction."""
        rows = []
        for part in self._observation.recurrent:
            trace = self._observation.traces[part.name]
            for row in range(len(trace.h)):
                name = part.name if len(trace.h) == 1 else f"{part.name}, {trace.layer_name(row)}"
                rows.append((name, part, trace, row))
        return rows

    def _activity(self, trace: CellTrace, row: int) -> Tensor:
        """Return the state of units: c of an LSTM, else h (N, T, U)."""
        return trace.h[row] if trace.c is None else trace.c[row]

    def prepare(self) -> None:
        """Compute the states of all layers, which every view shares."""
        if self._observation.recurrent:
            self._observation.traces  # noqa: B018 - computed once

    @view("recurrent")
    def roles(self) -> dict[str, UnitRoles]:
        """Unit roles: what each unit's state depends on, global or local."""
        return {
            name: classify_units(self._activity(trace, row), part.text)
            for name, part, trace, row in self._rows()
        }

    @view("recurrent")
    def ablation(self) -> dict[str, UnitRanking]:
        """Ablation: how much the scores decrease without each unit."""
        few = self._observe(self._shown_task.samples("test", NUM_ABLATED))
        scores = {part.name: part.score for part in few.recurrent}
        rankings = {}
        for name, part, trace, row in self._rows():
            layer, direction = divmod(row, trace.num_directions)
            score = scores[part.name]
            rankings[name] = rank_units(part.layer, score, layer=layer, direction=direction)
        return rankings

    @view("recurrent")
    def probes(self) -> dict[str, ProbeTable]:
        """Linear probes of the state for properties of the text, where a task has them."""
        return {
            name: probe_states(
                trace.state(row), part.probe_targets, units=_unit_names(trace),
                by_step=part.images is None,
            )
            for name, part, trace, row in self._rows() if part.probe_targets
        }  # fmt: skip

    @view("recurrent")
    def gates(self) -> dict[str, GateSaturation]:
        """Gate saturation: how often gates are closed or open, in layers with gates."""
        return {
            name: gate_saturation(trace, layer_index=row)
            for name, _, trace, row in self._rows() if trace.gates
        }  # fmt: skip

    @view("recurrent")
    def paths(self) -> dict[str, StatePaths]:
        """State paths: two principal components, coloured by the property that explains most.

        Without properties of the text, coloured by the time step.
        """
        paths = {}
        for name, part, trace, row in self._rows():
            states = trace.h[row][:NUM_PATHS]
            steps = np.broadcast_to(np.arange(float(states.shape[1])), states.shape[:2])
            targets = part.probe_targets or {"time step": steps}
            color = _most_explaining(states, targets)
            paths[name] = state_paths(
                states, color, targets[color][:NUM_PATHS], min(2, states.shape[2])
            )
        return paths

    @view("recurrent", "answers")
    def patching(self) -> dict[str, ActivationPatching]:
        """Activation patching: the effect of each unit's state after the input on the answer."""
        observation, patching = self._observation, {}
        last = observation.recurrent[-1]
        has_positions = last.output_text is not None and last.position_key != ""
        for name, part, trace, row in self._rows():
            if part is observation.recurrent[0]:
                layer, direction = divmod(row, trace.num_directions)
                patching[name] = patch_units(
                    part.layer, lambda: observation.answer()[0], part.input_text.shape[1] - 1,
                    positions=last.positions if has_positions else None,
                    position_name=last.position_key if has_positions else "position in the answer",
                    layer=layer, direction=direction, tolerance=observation.tolerance,
                )  # fmt: skip
        return patching

    @view("step answers")
    def automaton(self) -> dict[str, Automaton]:
        """Automaton extraction, of an agent with an answer after every step."""
        with torch.inference_mode():
            return {
                part.name: extract_automaton(part.layer, part.inputs, part.input_text, part.answers)
                for part in self._observation.recurrent
                if part.inputs is not None
            }

    @view("recurrent", "answers")
    def intervention(self) -> Intervention:
        """Answer the first question with the encoder state of the second patched in."""
        texts = [row.question for row in self._rows_of_task()]
        return intervene(self._agent.observe, self._shown_task, texts[0], donor=texts[1])

    @view("recurrent")
    def matches(self) -> dict[str, Matches]:
        """Matches: where the units active at one place are active together elsewhere (LSTMVis)."""
        return {
            name: find_matches(
                trace.bounded(row).cpu(),
                0,
                *_middle(trace),
                symbols=part.text if part.input_symbols is None else part.input_symbols,
            )
            for name, part, trace, row in self._rows()
        }

    @view("recurrent", uses=("roles", "ablation"))
    def cells(self) -> UnitTextHeatmap:
        """Text heatmap: each unit's activity on the characters of input and output."""
        rows = self._rows()
        states = sum(trace.h.shape[2] * trace.h.shape[3] for _, _, trace, _ in rows)
        num = max(1, min(NUM_SHOWN, MOST_SHOWN // states))
        parts = [
            layer_heatmap(
                name, trace.first(num), part.input_text[:num],
                None if part.output_text is None else part.output_text[:num],
                self._facts(name, part, trace, row), row,
            )
            for name, part, trace, row in rows
        ]  # fmt: skip
        images = [part.images for part in self._observation.recurrent]
        return UnitTextHeatmap(
            self._observation.title, tuple(parts), tuple(self._observation.labels[:num]),
            self._observation.correct[:num],
            images=images[0][:num] if len(images) == 1 and images[0] is not None else None,
        )  # fmt: skip

    def _facts(self, name: str, part: RecurrentPart, trace: CellTrace, row: int) -> dict[str, Any]:
        """Return the columns of the table of units next to the overlay."""
        activity = self._activity(trace, row)
        roles = self.roles()[name]
        change = next(iter(self.ablation()[name].change.values()))
        facts: dict[str, Any] = {"needed": (-change).round(3)}
        if part.probe_targets:
            end = 0 if row % trace.num_directions else activity.shape[1] - 1
            correlations = correlate_units(activity, part.probe_targets)
            facts["follows"] = _correlated_target(correlations[:, [end, -1]], part.probe_targets)
        facts["kind"] = np.array(roles.kinds)
        facts["position"], facts["character"] = roles.shares[:, :2].round(2).T
        return facts


ObservedTask = tuple[Callable[[Any], Observation], Task]


def match_agents(
    first: ObservedTask, second: ObservedTask, names: tuple[str, str]
) -> dict[str, UnitMatch]:
    """Match units of two agents' parts of one name at the same positions of the same questions."""
    task = first[1].for_display()
    batch = task.samples("test", NUM_SAMPLES)
    questions = [row.question for row in task.rows(task.targets(batch), batch)]
    observations = [
        observe(batch if own.for_display() == task else own.for_display().encode(questions))
        for observe, own in (first, second)
    ]
    matches = {}
    for a, b in itertools.product(*(each.recurrent for each in observations)):
        if a.name != b.name:
            continue
        pair = zip(observations, (a, b), strict=True)
        (x, at_x), (y, at_y) = (_by_position(each.traces[part.name], part) for each, part in pair)
        size = min(x.shape[1], y.shape[1])
        defined = at_x[:, :size] & at_y[:, :size]
        matches[a.name] = match_units(x[:, :size], y[:, :size], defined=defined, names=names)
    return matches


def _by_position(trace: CellTrace, part: RecurrentPart) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the hidden states of all layers by position in the text, and the mask of positions."""
    states = torch.cat(list(trace.h), dim=-1).cpu().numpy()
    positions = part.positions
    by_position = np.zeros((len(states), positions.max() + 1, states.shape[2]), states.dtype)
    mask = np.zeros(by_position.shape[:2], bool)
    samples, steps = np.nonzero(positions >= 0)
    by_position[samples, positions[samples, steps]] = states[samples, steps]
    mask[samples, positions[samples, steps]] = True
    return by_position, mask


def _unit_names(trace: CellTrace) -> list[str]:
    """Return a name for each number of `trace.state()`: h0, h1 and so on, then c0, c1."""
    kinds = ["h"] if trace.c is None else ["h", "c"]
    return [f"{kind}{unit}" for kind in kinds for unit in range(trace.h.shape[-1])]


def _correlated_target(correlations: NDArray[Any], quantities: Iterable[str]) -> NDArray[np.str_]:
    """Return for each unit the probe target with the largest correlation, as text.

    `correlations` are (Q, 2, U): after the last step of the input, and over all steps.
    """
    names = list(quantities)
    values = np.nan_to_num(correlations)
    texts = []
    for unit in range(values.shape[2]):
        row, column = np.unravel_index(np.abs(values[..., unit]).argmax(), values.shape[:2])
        when = ", end" if column == 0 else ""
        texts.append(f"{values[row, column, unit]:+.2f} {names[row]}{when}")
    return np.array(texts)


def _most_explaining(states: Tensor, quantities: Mapping[str, NDArray[Any]]) -> str:
    """Return the probe target that explains most of the units' variance over all steps."""
    targets = {name: values[: len(states)] for name, values in quantities.items()}
    explained = np.nan_to_num(correlate_units(states, targets)[:, -1] ** 2).mean(axis=1)
    return list(targets)[int(explained.argmax())]


def _middle(trace: CellTrace) -> tuple[int, int]:
    """Return the range of the two steps in the middle: first, and last + 1."""
    half = trace.h.shape[2] // 2
    return max(0, half - 1), half + 1
