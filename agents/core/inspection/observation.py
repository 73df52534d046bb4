"""Observations: what inspection may use of an agent that answers some samples.

Parts are found in the model or named by the agent: recurrent layers, images and their feature maps,
attention. Targets are functions of the raw output. Views follow from what there is.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.training.loop import to_device, total_loss
from tasks.core.settings import ConfigError, nearest
from tasks.core.task import Row, Task
from visualization import NothingToShow
from visualization.core.preserve import evaluation_mode
from visualization.recurrent import CellTrace, Edit, Intervention, intervene_on, state_from

if TYPE_CHECKING:
    from agents.core.inspection.inspected import Inspected


@attrs.frozen(eq=False)
class RecurrentPart:
    """A recurrent layer of the model over N samples and T time steps.

    Attributes:
        name: such as `encoder`.
        layer: the module; it is called in one go, or step by step with its own state.
        reads: what is read at each step (N, T), such as a character; "" where there is nothing.
        writes: what is written at each step (N, T), or None.
        quantities: what is known of each step, as tasks declare it.
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


@attrs.frozen(eq=False, kw_only=True)
class ImagePart:
    """Images (N, C, H, W) that feature maps are computed from.

    Attributes:
        model: from images to the raw output; its layers are named in all views.
        images: on the CPU, padded to one size.
        is_handwriting: whether they are scans of ink, in which strokes can be told.
    """

    model: nn.Module
    images: Tensor
    is_handwriting: bool = False


@attrs.frozen(eq=False, kw_only=True)
class AttentionPart:
    """Attention: `maps()` returns records, by layer or head, of where the model looks."""

    name: str
    maps: Callable[[], Any]


@attrs.frozen(eq=False, kw_only=True)
class BoxesPart:
    """Boxes on the images of a detector.

    Attributes:
        kinds: names of the kinds of boxes.
        right: of each image (N,) `boxes` (n, 4) in pixels, `kinds` (n,) and `scores` (n,).
        found: the same.
        is_ink: whether 1 in an image is ink on paper, which is drawn dark.
    """

    kinds: Sequence[str]
    right: Sequence[Any]
    found: Sequence[Any]
    is_ink: bool = False


Target = Callable[[Any, int], Tensor]  # raw output for R variants of a sample, its number → (R,)


@attrs.define(eq=False, slots=False, kw_only=True)
class Observation:
    """Samples that an agent answers while it is watched: all that views may use.

    Attributes:
        title: of the pages.
        rows: question, answer and right answer of each sample, as a person reads them.
        labels: each sample in few words (N,).
        model: the bare module.
        loss: the mean loss of the samples, as it is while the model is changed.
        generate: answers all samples as in use, free-running: codes (N, A), and logits (N, A, V);
            an agent that answers with numbers returns them in place of codes. None: it has no
            answer of that kind.
        characters: what each code stands for.
        recurrent: the recurrent layers, in the order in which they run.
        image: what feature maps are computed from; None: no images.
        attention: where it looks.
        boxes: those on the images, of a detector; None: it is none.
        classes: names of the classes, and the right class of each sample (N,), of a classifier of
            images; None: it is none.
        targets: what can be explained, by name: functions of the raw output of `image.model` for R
            variants of a sample, and of the number of that sample, that return scores (R,).
        tolerance: the most by which two answers differ that count as the same: 0 for codes.
        short_names: each question in few words, where it is too long for a title (N,).
    """

    title: str
    rows: Sequence[Row]
    labels: Sequence[str]
    model: nn.Module
    loss: Callable[[], Tensor]
    generate: Callable[[], tuple[Tensor, Tensor]] | None = None
    characters: Sequence[str] = ()
    recurrent: Sequence[RecurrentPart] = ()
    image: ImagePart | None = None
    attention: Sequence[AttentionPart] = ()
    boxes: BoxesPart | None = None
    classes: tuple[Sequence[str], NDArray[np.int64]] | None = None
    targets: Mapping[str, Target] = attrs.Factory(dict)
    tolerance: float = 0.0
    short_names: Sequence[str] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the answer to each sample is right (N,)."""
        return np.array([row.correct for row in self.rows])

    def part(self, name: str) -> RecurrentPart:
        """Return the recurrent part of a name."""
        known = [part.name for part in self.recurrent]
        if name not in known:
            problem, hint = f"{name!r} is not a part", nearest(name, known)
            raise ConfigError("intervene()", "part", problem, ", ".join(known), hint)
        return self.recurrent[known.index(name)]

    def short_name(self, question: str) -> str:
        """Return the first question in few words, or as it was typed."""
        return question if self.short_names is None else self.short_names[0]

    def answer(self) -> tuple[Tensor, Tensor]:
        """Return what `generate` does.

        Raises:
            NothingToShow: there is no such answer.
        """
        if self.generate is None:
            raise NothingToShow("this agent's answers are neither codes nor numbers")
        return self.generate()

    @functools.cached_property
    def traces(self) -> dict[str, CellTrace]:
        """States and gates of each recurrent part while the agent answers."""
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            watched = {
                part.name: stack.enter_context(intervene_on(part.layer, trace=True))
                for part in self.recurrent
            }
            if self.generate is None:
                self.loss()
            else:
                self.generate()
            return {name: steering.trace() for name, steering in watched.items()}


def observe(agent: "Inspected", batch: Any, **known: Any) -> Observation:
    """Return an observation of a batch: rows and loss, and what an agent says it knows.

    Args:
        agent: the agent.
        batch: of its task, as arrays.
        known: fields of the observation. Where recurrent layers are not among them, those of the
            model are found, with the numbers of their steps as what is read.
    """
    rows = known.pop("rows", None) or agent.task.rows(agent.predict_arrays(batch), batch)
    moved = to_device(batch, agent.device)

    def loss() -> Tensor:
        with evaluation_mode(agent.model):
            return total_loss(agent.loss(moved))

    fields: dict[str, Any] = {
        "title": f"{agent.name} on {agent.task.name}",
        "rows": rows,
        "labels": [f"{row.short_question or row.question} {row.answer}" for row in rows],
        "model": agent.model,
        "loss": loss,
        **known,
    }
    if "recurrent" not in fields:

        def score() -> dict[str, Tensor]:
            now = agent.task.rows(agent.predict_arrays(batch), batch)
            return {"correct": torch.tensor([float(row.correct) for row in now])}

        fields["recurrent"] = _recurrent_parts(agent.model, loss, score, len(rows))
    return Observation(**fields)


def _recurrent_parts(
    model: nn.Module,
    loss: Callable[[], Tensor],
    score: Callable[[], Mapping[str, Tensor]],
    num_samples: int,
) -> tuple[RecurrentPart, ...]:
    """Return the recurrent layers that run once, each over steps of its own, without names."""
    steps: dict[str, list[int]] = {}
    with contextlib.ExitStack() as stack, torch.inference_mode():
        for name, module in model.named_modules():
            if isinstance(module, nn.RNNBase):

                def note(layer: Any, inputs: Any, output: Any, name: str = name) -> None:
                    values = output[0]
                    if isinstance(values, Tensor) and values.ndim == 3:
                        axis = 1 if layer.batch_first else 0
                        if values.shape[1 - axis] == num_samples:
                            steps.setdefault(name, []).append(values.shape[axis])

                stack.callback(module.register_forward_hook(note).remove)
        loss()

    def part(name: str, num_steps: int) -> RecurrentPart:
        numbers = np.arange(num_steps).astype(str)
        reads = np.broadcast_to(numbers, (num_samples, num_steps))
        layer = cast("nn.RNNBase", model.get_submodule(name))
        return RecurrentPart(name, layer, reads, None, {}, "", score)

    return tuple(part(name, lengths[0]) for name, lengths in steps.items() if len(lengths) == 1)


def intervene(
    make: Callable[[Any], Observation],
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
    observation = make(task.encode([question]))
    if not observation.recurrent and (edits or donor is not None):
        problem = "the agent has no recurrent part to change"
        raise ConfigError("intervene()", "", problem, "an agent that has one")
    chosen = {
        observation.part(name).name: [given] if isinstance(given, Edit) else list(given)
        for name, given in (edits or {}).items()
    }
    for name, held in chosen.items():
        for edit in held:
            if edit.time is not None:
                _step(edit.time, observation.part(name).reads.shape[1])
    words = [f"{name}: {edit}" for name, held in chosen.items() for edit in held]
    if isinstance(units, int):
        units = [units]
    if donor is not None:
        taker = observation.part(part or observation.recurrent[0].name)
        giver = make(task.encode([donor]))
        found = _taken(giver.traces[taker.name], units, time, layer)
        chosen[taker.name] = [*chosen.get(taker.name, ()), *found]
        which = "all units" if units is None else f"units {', '.join(map(str, units))}"
        of = giver.short_name(donor)
        words.append(f"{taker.name}: {which} as after step {found[0].time} of {of}")
    elif units is not None:
        raise ConfigError("intervene()", "units", "go with donor", "edits, or a donor")
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        before = observation.answer()
        for name, held in chosen.items():
            stack.enter_context(intervene_on(observation.part(name).layer, held))
        after = observation.answer()
    odds = torch.stack([before[1][0], after[1][0]]).double().softmax(-1).cpu().numpy()
    first, second = (task.decode(codes.cpu().numpy())[0] for codes in (before[0], after[0]))
    named = observation.short_name(question)
    return Intervention(
        question=named, changes=tuple(words), before=first, after=second, probabilities=odds,
        characters=observation.characters,
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
