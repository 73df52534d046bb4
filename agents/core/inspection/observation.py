"""Observations of an agent on a batch, for inspection: samples, parts of the model, targets.

Parts are recurrent layers, which are found in the model, and images, feature maps and attention,
which an agent declares. Targets are functions of the raw output.
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
from visualization.attention.hiding import TextAttention
from visualization.calibration.reliability import Confidences
from visualization.core.preserve import evaluation_mode
from visualization.recurrent import CellTrace, Edit, Intervention, intervene_on, state_from

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol


@attrs.frozen(eq=False)
class RecurrentPart:
    """A recurrent layer of the model over N samples and T time steps.

    Attributes:
        name: such as `encoder`.
        layer: the module; it is called once for all steps, or step by step with its own state.
        input_text: input at each step as text (N, T), such as a character; "": none.
        output_text: output at each step as text (N, T), or None.
        probe_targets: properties of each step, as tasks declare them.
        position_key: the probe target with the position in the text, such as `column`; "": the
            step.
        score: runs the model and returns scores of each sample (N,).
        inputs: input of the layer (N, T, I) of an agent with an answer after every step, from which
            an automaton can be extracted.
        answers: the answer after each step (N, T).
        input_symbols: input at each step as one character (N, T), if `input_text` has more.
        images: of ink (N, H, W), over whose width the steps are evenly spread; None: they are not.
    """

    name: str
    layer: nn.RNNBase
    input_text: NDArray[np.str_]
    output_text: NDArray[np.str_] | None
    probe_targets: Mapping[str, NDArray[Any]]
    position_key: str
    score: Callable[[], Mapping[str, Tensor]]
    inputs: Tensor | None = None
    answers: NDArray[np.str_] | None = None
    input_symbols: NDArray[np.str_] | None = None
    images: NDArray[np.float32] | None = None

    @property
    def text(self) -> NDArray[np.str_]:
        """Input as text, or, without an input, output as text."""
        return (
            self.input_text
            if self.output_text is None or (self.input_text != "").any()
            else self.output_text
        )

    @property
    def positions(self) -> NDArray[np.int64]:
        """The position in the text at each step (N, T), from 0; negative: none."""
        if not self.position_key:
            return np.broadcast_to(np.arange(self.input_text.shape[1]), self.input_text.shape)
        positions = np.nan_to_num(self.probe_targets[self.position_key], nan=-1)
        return np.asarray(positions, np.int64)


@attrs.frozen(eq=False, kw_only=True)
class AnswerScores:
    """Scores of the agent's own answers, as functions of what the first recurrent part reads.

    Attributes:
        scores: of samples by their numbers (R,), K differentiable scores of each (R, K), such as
            the logit of each character of the answer, with that answer given.
        texts: what each score is of (N, K).
        quantity: name of the scores.
    """

    scores: Callable[[Tensor], Tensor]
    texts: NDArray[np.str_]
    quantity: str = "logit above the mean"


def logits_above_mean(logits: Tensor, codes: Tensor) -> Tensor:
    """Return logits (R, A, V) of given codes (R, A) minus the mean over all codes (R, A).

    A constant that is added to all logits changes no probability, and so not these.
    """
    return (logits.gather(-1, codes[..., None]) - logits.mean(-1, keepdim=True))[..., 0]


@attrs.frozen(eq=False, kw_only=True)
class ImagePart:
    """Images (N, C, H, W), and the model whose feature maps are inspected.

    Attributes:
        model: the module from images to the raw output.
        images: on the CPU, padded to one size.
        is_handwriting: whether they are scans of handwriting, in which strokes can be detected.
        answer: what the agent says of one image (1, C, H, W), as `ImageSubject.answer` does;
            None: the probabilities of the classes.
        batch_of: one image as a batch of the task, to observe; None: targets are the classes.
    """

    model: nn.Module
    images: Tensor
    is_handwriting: bool = False
    answer: Callable[[Tensor], Mapping[str, Any]] | None = None
    batch_of: Callable[[Tensor], Any] | None = None


@attrs.frozen(eq=False, kw_only=True)
class AttentionPart:
    """Attention: `maps()` returns records of attention maps, by layer or head.

    Attributes:
        weights: records the weights over characters as the model runs, and hides some; None: the
            model does not attend to characters.
        read: the characters that it attends to (N, Q).
    """

    name: str
    maps: Callable[[], Any]
    weights: TextAttention | None = None
    read: NDArray[np.str_] | None = None


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
    """Observation of an agent on a batch: all that views may use.

    Attributes:
        title: of the pages.
        rows: question, answer and target of each sample as text.
        labels: short labels of the samples (N,).
        model: the bare module.
        loss: computes the mean loss of the samples, also while the model is changed.
        generate: computes the answers as in prediction: codes (N, A), and logits (N, A, V); an
            agent of numbers returns them instead of codes. None: the answers are of another kind.
        characters: the character of each code.
        recurrent: the recurrent layers, in the order in which they run.
        answer_scores: scores of the answers given, for attribution to what the first recurrent part
            reads, which is called once; None: there are none.
        image: images and the module of their feature maps; None: no images.
        attention: the attention layers.
        boxes: those on the images, of a detector; None: it is none.
        classes: names of the classes, and the right class of each sample (N,), of an image
            classifier; None: it is not one.
        targets: targets of attribution, by name: functions of the raw output of `image.model` for R
            variants of a sample, and of the number of that sample, that return scores (R,).
        tolerance: largest difference of two equal answers: 0 for codes.
        short_names: short forms of questions that are too long for a title (N,).
        confidences: how sure the agent is of what it says, by kinds; the temperature is fitted to
            the first.
        temperature: that its confidences have now.
    """

    title: str
    rows: Sequence[Row]
    labels: Sequence[str]
    model: nn.Module
    loss: Callable[[], Tensor]
    generate: Callable[[], tuple[Tensor, Tensor]] | None = None
    characters: Sequence[str] = ()
    recurrent: Sequence[RecurrentPart] = ()
    answer_scores: AnswerScores | None = None
    image: ImagePart | None = None
    attention: Sequence[AttentionPart] = ()
    boxes: BoxesPart | None = None
    classes: tuple[Sequence[str], NDArray[np.int64]] | None = None
    targets: Mapping[str, Target] = attrs.Factory(dict)
    tolerance: float = 0.0
    short_names: Sequence[str] | None = None
    confidences: Sequence[Confidences] = ()
    temperature: float = 1.0

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the answer to each sample is right (N,)."""
        return np.array([row.correct for row in self.rows])

    def part(self, name: str) -> RecurrentPart:
        """Return the recurrent part with a name."""
        names = [part.name for part in self.recurrent]
        if name not in names:
            problem, hint = f"{name!r} is not a part", nearest(name, names)
            raise ConfigError("intervene()", "part", problem, ", ".join(names), hint)
        return self.recurrent[names.index(name)]

    def short_name(self, question: str) -> str:
        """Return the short form of the first question, or `question` without one."""
        return question if self.short_names is None else self.short_names[0]

    def answer(self) -> tuple[Tensor, Tensor]:
        """Return answers and logits of `generate`.

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
            interventions = {
                part.name: stack.enter_context(intervene_on(part.layer, trace=True))
                for part in self.recurrent
            }
            if self.generate is None:
                self.loss()
            else:
                self.generate()
            return {name: intervention.trace() for name, intervention in interventions.items()}


def observe(agent: "AgentProtocol", batch: Any, **fields: Any) -> Observation:
    """Return an observation of a batch, with the fields that an agent declares.

    Args:
        agent: the agent.
        batch: of its task, as arrays.
        fields: fields of the observation. Without `recurrent`, the recurrent layers of the model
            are found, with the numbers of their steps as input text.
    """
    rows = fields.pop("rows", None) or agent.task.rows(agent.predict_arrays(batch), batch)
    tensors = to_device(batch, agent.device)

    def loss() -> Tensor:
        with evaluation_mode(agent.model):
            return total_loss(agent.loss(tensors))

    defaults: dict[str, Any] = {
        "title": f"{agent.name} on {agent.task.name}",
        "rows": rows,
        "labels": [f"{row.short_question or row.question} {row.answer}" for row in rows],
        "model": agent.model,
        "loss": loss,
    }
    if "recurrent" not in fields:

        def score() -> dict[str, Tensor]:
            new_rows = agent.task.rows(agent.predict_arrays(batch), batch)
            return {"correct": torch.tensor([float(row.correct) for row in new_rows])}

        defaults["recurrent"] = _recurrent_parts(agent.model, loss, score, len(rows))
    return Observation(**{**defaults, **fields})


def _recurrent_parts(
    model: nn.Module,
    loss: Callable[[], Tensor],
    score: Callable[[], Mapping[str, Tensor]],
    num_samples: int,
) -> tuple[RecurrentPart, ...]:
    """Find the recurrent layers that are called once; their steps have numbers as text."""
    steps: dict[str, list[int]] = {}
    with contextlib.ExitStack() as stack, torch.inference_mode():
        for name, module in model.named_modules():
            if isinstance(module, nn.RNNBase):

                def record_steps(layer: Any, inputs: Any, output: Any, name: str = name) -> None:
                    values = output[0]
                    if isinstance(values, Tensor) and values.ndim == 3:
                        axis = 1 if layer.batch_first else 0
                        if values.shape[1 - axis] == num_samples:
                            steps.setdefault(name, []).append(values.shape[axis])

                stack.callback(module.register_forward_hook(record_steps).remove)
        loss()

    def part(name: str, num_steps: int) -> RecurrentPart:
        numbers = np.arange(num_steps).astype(str)
        input_text = np.broadcast_to(numbers, (num_samples, num_steps))
        layer = cast("nn.RNNBase", model.get_submodule(name))
        return RecurrentPart(name, layer, input_text, None, {}, "", score)

    return tuple(part(name, lengths[0]) for name, lengths in steps.items() if len(lengths) == 1)


def intervene(
    observe_batch: Callable[[Any], Observation],
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
    """Answer a question without and with changed hidden states; see `Agent.intervene`."""
    observation = observe_batch(task.encode([question]))
    if not observation.recurrent and (edits or donor is not None):
        problem = "the agent has no recurrent part to change"
        raise ConfigError("intervene()", "", problem, "an agent that has one")
    edits_of = {
        observation.part(name).name: [value] if isinstance(value, Edit) else list(value)
        for name, value in (edits or {}).items()
    }
    for name, part_edits in edits_of.items():
        for edit in part_edits:
            if edit.time is not None:
                _step(edit.time, observation.part(name).input_text.shape[1])
    changes = [f"{name}: {edit}" for name, part_edits in edits_of.items() for edit in part_edits]
    if isinstance(units, int):
        units = [units]
    if donor is not None:
        patched = observation.part(part or observation.recurrent[0].name)
        source = observe_batch(task.encode([donor]))
        patches = _patches(source.traces[patched.name], units, time, layer)
        edits_of[patched.name] = [*edits_of.get(patched.name, ()), *patches]
        which = "all units" if units is None else f"units {', '.join(map(str, units))}"
        donor_name = source.short_name(donor)
        changes.append(f"{patched.name}: {which} as after step {patches[0].time} of {donor_name}")
    elif units is not None:
        raise ConfigError("intervene()", "units", "go with donor", "edits, or a donor")
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        before = observation.answer()
        for name, part_edits in edits_of.items():
            stack.enter_context(intervene_on(observation.part(name).layer, part_edits))
        after = observation.answer()
    probabilities = torch.stack([before[1][0], after[1][0]]).double().softmax(-1).cpu().numpy()
    answers = [task.decode(codes.cpu().numpy())[0] for codes, _ in (before, after)]
    return Intervention(
        question=observation.short_name(question), changes=tuple(changes), before=answers[0],
        after=answers[1], probabilities=probabilities,
        characters=observation.characters,
    )  # fmt: skip


def _step(time: int, num_steps: int) -> int:
    """Return a step counted from 0; a negative one counts from the end."""
    if not -num_steps <= time < num_steps:
        accepted = f"{-num_steps} to {num_steps - 1}"
        raise ConfigError("intervene()", "time", f"{time} is not a step", accepted)
    return time % num_steps


def _patches(
    trace: CellTrace, units: Sequence[int] | None, time: int, layer: int | None
) -> list[Edit]:
    """Return edits that set units of one layer, or all, to their state in the only sample."""
    num_rows, _, num_steps, size = trace.h.shape
    num_layers = num_rows // trace.num_directions
    for name, values, num in (("units", units or (), size), ("layer", [layer or 0], num_layers)):
        for value in values:
            if not 0 <= value < num:
                problem = f"{value} is not a {name.removesuffix('s')}"
                raise ConfigError("intervene()", name, problem, f"0 to {num - 1}")
    if units is not None and not units:
        raise ConfigError("intervene()", "units", "empty", "numbers of units, or None")
    step = _step(time, num_steps)
    rows = [row for row in range(num_rows) if layer in (None, row // trace.num_directions)]
    return [state_from(trace, slice(None), step, row, units) for row in rows]
