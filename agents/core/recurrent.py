"""The views that every recurrent agent has: it says what its layers read, and the rest follows.

An agent makes a `Study` of some samples; the functions of `visualization.recurrent` do the work.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.core.settings import ConfigError, nearest
from tasks.core.task import Row, Task
from visualization.recurrent import (
    CellTrace,
    Edit,
    GateSaturation,
    Intervention,
    Matches,
    Overlay,
    OverlayPart,
    Patching,
    ProbeTable,
    StatePaths,
    UnitMatch,
    UnitRanking,
    UnitRoles,
    classify_units,
    correlate_units,
    find_matches,
    gate_saturation,
    match_units,
    patch_units,
    probe_states,
    rank_units,
    state_paths,
    steered,
)

NUM_SAMPLES = 2000  # of every view but the overlay
NUM_SHOWN = 100  # samples of the overlay: with all their gates they make a page of some megabytes
NUM_PATHS = 300


@attrs.frozen(eq=False)
class Part:
    """One recurrent layer of an agent over N samples and T time steps.

    Attributes:
        name: such as `encoder`.
        layer: the module; it is called in one go, or step by step with its own state.
        reads: the character read at each step (N, T), "" where none is.
        writes: the character written at each step (N, T), or None.
        quantities: what there is to know at each moment, as tasks declare it.
        place: the quantity that says which place of the text a step is at, such as `column`; "":
            the steps themselves.
        score: runs what comes after and with the layer, and returns scores of each sample (N,).
    """

    name: str
    layer: nn.RNNBase
    reads: NDArray[np.str_]
    writes: NDArray[np.str_] | None
    quantities: Mapping[str, NDArray[Any]]
    place: str
    score: Callable[[], Mapping[str, Tensor]]

    @property
    def symbols(self) -> NDArray[np.str_]:
        """What is read, or, where nothing is, what is written."""
        return self.reads if self.writes is None or (self.reads != "").any() else self.writes

    @property
    def places(self) -> NDArray[np.int64]:
        """The place of each step (N, T), from 0 on; negative: none."""
        if not self.place:
            return np.broadcast_to(np.arange(self.reads.shape[1]), self.reads.shape)
        named = np.nan_to_num(self.quantities[self.place], nan=-1)
        return np.asarray(named, np.int64)


@attrs.define(eq=False, slots=False)
class Study:
    """Samples that an agent answers while it is watched.

    Attributes:
        title: of the pages.
        labels: each sample in words (N,).
        right: whether its answer is right (N,).
        characters: what each code stands for.
        write: answers all samples as in use, free-running: codes (N, A), and logits (N, A, V).
        parts: the recurrent layers, in the order in which they run.
    """

    title: str
    labels: Sequence[str]
    right: NDArray[np.bool_]
    characters: str
    write: Callable[[], tuple[Tensor, Tensor]]
    parts: Sequence[Part]

    def part(self, name: str, place: str) -> Part:
        """Return the part of a name."""
        known = [part.name for part in self.parts]
        if name not in known:
            problem, hint = f"{name!r} is not a part", nearest(name, known)
            raise ConfigError(place, "part", problem, ", ".join(known), hint)
        return self.parts[known.index(name)]

    @functools.cached_property
    def traces(self) -> dict[str, CellTrace]:
        """States and gates of each part while the agent answers."""
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            watched = {
                part.name: stack.enter_context(steered(part.layer, keep=True))
                for part in self.parts
            }
            self.write()
            return {name: steering.trace() for name, steering in watched.items()}


class RecurrentViews:
    """The inspections of one agent, which share the answers and traces that they look at."""

    def __init__(self, study: Callable[[Any], Study], task: Task) -> None:
        self._make, self._task = study, task
        self._ranked: dict[str, UnitRanking] = {}

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
                name = part.name if len(trace.h) == 1 else f"{part.name}, {trace.row_name(row)}"
                found.append((name, part, trace, row))
        return found

    def _activity(self, trace: CellTrace, row: int) -> Tensor:
        """Return what a unit holds: c where there is one, else h (N, T, U)."""
        return trace.h[row] if trace.c is None else trace.c[row]

    def roles(self) -> dict[str, UnitRoles]:
        """Global or local: what each unit's state depends on."""
        return {
            name: classify_units(self._activity(trace, row), part.symbols)
            for name, part, trace, row in self._rows()
        }

    def ablation(self) -> dict[str, UnitRanking]:
        """How much each unit is needed; the overlay shows it too, if it comes later."""
        for name, part, trace, row in self._rows():
            layer, direction = divmod(row, trace.num_directions)
            self._ranked[name] = rank_units(
                part.layer, part.score, layer=layer, direction=direction
            )
        return self._ranked

    def probes(self) -> dict[str, ProbeTable]:
        """What the state holds, and when."""
        return {
            name: probe_states(trace.state(row), part.quantities, units=_unit_names(trace))
            for name, part, trace, row in self._rows()
        }

    def gates(self) -> dict[str, GateSaturation]:
        """How often gates are shut or open; nothing for layers that have none."""
        return {
            name: gate_saturation(trace, row=row)
            for name, _, trace, row in self._rows() if trace.gates
        }  # fmt: skip

    def paths(self) -> dict[str, StatePaths]:
        """The way of the state through its two principal components, by what explains it best."""
        found = {}
        for name, part, trace, row in self._rows():
            states = trace.h[row][:NUM_PATHS]
            color = _most_telling(states, part.quantities)
            found[name] = state_paths(states, color, part.quantities[color][:NUM_PATHS])
        return found

    def patching(self) -> Patching:
        """What each unit of the first part carries over to the answer after the last step read."""
        study = self._study
        first, last = study.parts[0], study.parts[0].reads.shape[1] - 1
        return patch_units(
            first.layer, lambda: study.write()[0], last,
            places=study.parts[-1].places, what_places=study.parts[-1].place or "position",
        )  # fmt: skip

    def intervention(self) -> Intervention:
        """The first sum with the state of the second: everything that was read, in one place."""
        texts = [row.question for row in self._rows_of_task()]
        return intervene(self._make, self._task, texts[0], donor=texts[1])

    def matches(self) -> dict[str, Matches]:
        """Where the units of the first sample's middle steps are on together elsewhere."""
        return {
            name: find_matches(
                torch.tanh(self._activity(trace, row)).cpu(),
                0,
                *_middle(trace),
                symbols=part.symbols,
            )
            for name, part, trace, row in self._rows()
        }

    def cells(self) -> Overlay:
        """Each unit's activity on the characters that are read and written."""
        parts = [
            OverlayPart(
                name,
                {q: _shown(values) for q, values in trace.quantities(row).items()},
                part.reads[:NUM_SHOWN],
                None if part.writes is None else part.writes[:NUM_SHOWN],
                self._facts(name, part, trace, row),
            )
            for name, part, trace, row in self._rows()
        ]
        labels, right = self._study.labels[:NUM_SHOWN], self._study.right[:NUM_SHOWN]
        return Overlay(self._study.title, tuple(parts), tuple(labels), right)

    def _facts(self, name: str, part: Part, trace: CellTrace, row: int) -> dict[str, Any]:
        """Return what the table beside the overlay says of each unit."""
        activity = self._activity(trace, row)
        roles = classify_units(activity, part.symbols)
        facts: dict[str, Any] = {
            "kind": np.array(roles.kinds),
            "position": roles.shares[:, 0].round(2),
            "character": roles.shares[:, 1].round(2),
            "follows": _followed(correlate_units(activity, part.quantities), part.quantities),
        }
        if self._ranked:
            change = next(iter(self._ranked[name].change.values()))
            facts["needed"] = (-change).round(3)
        return facts


def intervene(
    make: Callable[[Any], Study],
    task: Task,
    question: str,
    edits: Mapping[str, Edit | Sequence[Edit]] | None = None,
    *,
    donor: str | None = None,
    part: str = "",
    units: Sequence[int] | None = None,
    time: int = -1,
) -> Intervention:
    """Answer one question as ever and with states changed; see an agent's `intervene`."""
    study = make(task.encode([question]))
    chosen = {
        study.part(name, "intervene()").name: [given] if isinstance(given, Edit) else list(given)
        for name, given in (edits or {}).items()
    }
    words = [f"{name}: {edit}" for name, held in chosen.items() for edit in held]
    if donor is not None:
        taker = study.part(part or study.parts[0].name, "intervene()")
        edit = _taken(make(task.encode([donor])), taker.name, units, time)
        chosen[taker.name] = [*chosen.get(taker.name, ()), edit]
        which = "all units" if units is None else f"units {', '.join(map(str, units))}"
        words.append(f"{taker.name}: {which} as after step {edit.time} of {donor}")
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        before = study.write()
        for name, held in chosen.items():
            stack.enter_context(steered(study.part(name, "intervene()").layer, held))
        after = study.write()
    odds = torch.stack([before[1][0], after[1][0]]).double().softmax(-1).cpu().numpy()
    first, second = (task.decode(codes.cpu().numpy())[0] for codes in (before[0], after[0]))
    return Intervention(question, tuple(words), first, second, odds, study.characters)


Watched = tuple[Callable[[Any], Study], Task]


def match_studies(first: Watched, second: Watched) -> dict[str, UnitMatch]:
    """Match the units of two agents, part by part, at the same places of the same questions."""
    batch = first[1].samples("test", NUM_SAMPLES)
    questions = [row.question for row in first[1].rows(batch[1], batch)]
    studies = [make(task.encode(questions)) for make, task in (first, second)]
    found = {}
    for a, b in zip(*(study.parts for study in studies), strict=True):
        pair = zip(studies, (a, b), strict=True)
        (x, at_x), (y, at_y) = (_in_place(study.traces[part.name], part) for study, part in pair)
        size = min(x.shape[1], y.shape[1])
        defined = at_x[:, :size] & at_y[:, :size]
        found[a.name] = match_units(x[:, :size], y[:, :size], defined=defined)
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


def _taken(donor: Study, part: str, units: Sequence[int] | None, time: int) -> Edit:
    """Return the edit that sets units of layer 0 to what they are in another question."""
    trace = donor.traces[part]
    num_steps = trace.h.shape[2]
    if not -num_steps <= time < num_steps:
        accepted = f"{-num_steps} to {num_steps - 1}"
        raise ConfigError("intervene()", "time", f"{time} is not a step", accepted)
    at = slice(None) if units is None else list(units)
    c = None if trace.c is None else trace.c[0, :, time][:, at]
    return Edit(units=units, time=time % num_steps, h=trace.h[0, :, time][:, at], c=c)


def _shown(values: Tensor) -> NDArray[np.float32]:
    return values[:NUM_SHOWN].float().cpu().numpy()


def _unit_names(trace: CellTrace) -> list[str]:
    """Return a name for each number of `trace.state()`: h0, h1 and so on, then c0, c1."""
    kinds = ["h"] if trace.c is None else ["h", "c"]
    return [f"{kind}{unit}" for kind in kinds for unit in range(trace.h.shape[-1])]


def _followed(correlations: NDArray[Any], quantities: Iterable[str]) -> NDArray[np.str_]:
    """Return for each unit the quantity it goes with best, at the last step or over all steps."""
    names = list(quantities)
    found = np.nan_to_num(correlations[:, -2:])  # (Q, last step and all steps, U)
    words = []
    for unit in range(found.shape[2]):
        row, column = np.unravel_index(np.abs(found[..., unit]).argmax(), found.shape[:2])
        when = "last step" if column == 0 else "all steps"
        words.append(f"{names[row]} {found[row, column, unit]:+.2f} ({when})")
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
