"""What a recurrent agent says of itself: its layers, what they read, and how to answer again."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.core.settings import ConfigError, nearest
from tasks.core.task import Task
from visualization.recurrent import CellTrace, Edit, Intervention, intervene_on, state_from


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
        inputs: what the layer reads (N, T, I), where it would answer at every step, so that an
            automaton can be extracted.
        outputs: what it would answer after each step (N, T).
        signs: what is read at each step in one character (N, T), where `reads` has more.
    """

    name: str
    layer: nn.RNNBase
    reads: NDArray[np.str_]
    writes: NDArray[np.str_] | None
    quantities: Mapping[str, NDArray[Any]]
    place: str
    score: Callable[[], Mapping[str, Tensor]]
    inputs: Tensor | None = None
    outputs: NDArray[np.str_] | None = None
    signs: NDArray[np.str_] | None = None

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
        write: answers all samples as in use, free-running: codes (N, A), and logits (N, A, V); an
            agent that answers with numbers returns them in place of codes.
        parts: the recurrent layers, in the order in which they run.
        tolerance: the most by which two answers differ that count as the same: 0 for codes.
        names: each question in few words, where it is too long for a title (N,).
    """

    title: str
    labels: Sequence[str]
    right: NDArray[np.bool_]
    characters: Sequence[str]
    write: Callable[[], tuple[Tensor, Tensor]]
    parts: Sequence[Part]
    tolerance: float = 0.0
    names: Sequence[str] | None = None

    def part(self, name: str) -> Part:
        """Return the part of a name."""
        known = [part.name for part in self.parts]
        if name not in known:
            problem, hint = f"{name!r} is not a part", nearest(name, known)
            raise ConfigError("intervene()", "part", problem, ", ".join(known), hint)
        return self.parts[known.index(name)]

    def name(self, question: str) -> str:
        """Return the first question in few words, or as it was typed."""
        return question if self.names is None else self.names[0]

    @functools.cached_property
    def traces(self) -> dict[str, CellTrace]:
        """States and gates of each part while the agent answers."""
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            watched = {
                part.name: stack.enter_context(intervene_on(part.layer, trace=True))
                for part in self.parts
            }
            self.write()
            return {name: steering.trace() for name, steering in watched.items()}


def intervene(
    make: Callable[[Any], Study],
    task: Task,
    question: str,
    edits: Mapping[str, Edit | Sequence[Edit]] | None = None,
    *,
    donor: str | None = None,
    part: str | None = None,
    units: int | Sequence[int] | None = None,
    time: int = -1,
    layer: int | None = None,
) -> Intervention:
    """Answer one question as ever and with states changed; see an agent's `intervene`."""
    study = make(task.encode([question]))
    if not study.parts and (edits or donor is not None):
        problem = "the agent has no recurrent part to change"
        raise ConfigError("intervene()", "", problem, "an agent that has one")
    chosen = {
        study.part(name).name: [given] if isinstance(given, Edit) else list(given)
        for name, given in (edits or {}).items()
    }
    for name, held in chosen.items():
        for edit in held:
            if edit.time is not None:
                _step(edit.time, study.part(name).reads.shape[1])
    words = [f"{name}: {edit}" for name, held in chosen.items() for edit in held]
    if isinstance(units, int):
        units = [units]
    if donor is not None:
        taker = study.part(part or study.parts[0].name)
        giver = make(task.encode([donor]))
        found = _taken(giver.traces[taker.name], units, time, layer)
        chosen[taker.name] = [*chosen.get(taker.name, ()), *found]
        which = "all units" if units is None else f"units {', '.join(map(str, units))}"
        words.append(f"{taker.name}: {which} as after step {found[0].time} of {giver.name(donor)}")
    elif units is not None:
        raise ConfigError("intervene()", "units", "go with donor", "edits, or a donor")
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        before = study.write()
        for name, held in chosen.items():
            stack.enter_context(intervene_on(study.part(name).layer, held))
        after = study.write()
    odds = torch.stack([before[1][0], after[1][0]]).double().softmax(-1).cpu().numpy()
    first, second = (task.decode(codes.cpu().numpy())[0] for codes in (before[0], after[0]))
    named = study.name(question)
    return Intervention(
        question=named, changes=tuple(words), before=first, after=second, probabilities=odds,
        characters=study.characters,
    )  # fmt: skip


def _step(time: int, num_steps: int) -> int:
    """Return a step from 0 on; a negative one counts from the end."""
    if not -num_steps <= time < num_steps:
        accepted = f"{-num_steps} to {num_steps - 1}"
        raise ConfigError("intervene()", "time", f"{time} is not a step", accepted)
    return time % num_steps


def _taken(
    trace: CellTrace, units: Sequence[int] | None, time: int, layer: int | None
) -> list[Edit]:
    """Return edits that set units of one layer, or all, to what they are in the only sample."""
    num_rows, _, num_steps, size = trace.h.shape
    num_layers = num_rows // trace.num_directions
    for name, values, most in (("units", units or (), size), ("layer", [layer or 0], num_layers)):
        for value in values:
            if not 0 <= value < most:
                problem = f"{value} is not a {name.removesuffix('s')}"
                raise ConfigError("intervene()", name, problem, f"0 to {most - 1}")
    if units is not None and not units:
        raise ConfigError("intervene()", "units", "none is named", "numbers of units, or None")
    at = _step(time, num_steps)
    rows = [row for row in range(num_rows) if layer in (None, row // trace.num_directions)]
    return [state_from(trace, slice(None), at, row, units) for row in rows]
