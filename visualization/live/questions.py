"""Questions of the live page: what it shows of a model of texts, and the passes that it needs.

T steps and U units of a recurrent layer; A characters written, Q characters read; V codes.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attention.hiding import TextAttention
from visualization.core.errors import argument_error
from visualization.core.preserve import evaluation_mode
from visualization.live.recent import Recent
from visualization.live.weights import WeightsWatch
from visualization.recurrent.cells import CellTrace, intervene_on
from visualization.recurrent.edits import Edit

_KEPT_QUESTIONS = 64
_NUM_LIKELIEST = 3  # characters that are shown of each place of an answer
_Range = tuple[NDArray[np.float32], NDArray[np.float32]]  # lowest and highest (L, U)
_Ranges = Mapping[str, Mapping[str, _Range]]  # by part, and h or c


@attrs.frozen(eq=False, kw_only=True)
class QuestionPart:
    """A recurrent layer that takes part in the answer to one question.

    Attributes:
        name: such as `encoder`.
        layer: the module.
        read: what it reads at each step (T,); "": nothing.
        writes: whether a character of the answer is written after each step (T = A).
    """

    name: str
    layer: nn.RNNBase
    read: Sequence[str]
    writes: bool = False


@attrs.frozen(eq=False, kw_only=True)
class Question:
    """A question that was read, and can be answered.

    Attributes:
        text: as it was typed.
        target: the right answer; "": unknown.
        parts: the recurrent layers, in the order in which they run.
        attention: over the characters of `read`; None: there is none.
        read: the characters that are attended to (Q,).
        answer: runs the model: codes (1, A) and logits (1, A, V).
    """

    text: str
    target: str
    parts: Sequence[QuestionPart]
    attention: TextAttention | None = None
    read: Sequence[str] = ()
    answer: Callable[[], tuple[Tensor, Tensor]]


@attrs.frozen(eq=False, kw_only=True)
class QuestionSubject:
    """What a live page shows of a model of texts.

    Attributes:
        model: the module.
        samples: questions to start from, one or more.
        characters: the character, or label, of each code (V,).
        decode: an answer as a person reads it, of codes (A,).
        read: reads a question; a ValueError says what is wrong with it, and what is accepted.
        traces: states of the parts, by name, over samples: how far they usually go.
    """

    model: nn.Module
    samples: Sequence[str]
    characters: Sequence[str]
    decode: Callable[[NDArray[np.int64]], str]
    read: Callable[[str], Question]
    traces: Callable[[], Mapping[str, CellTrace]] = dict


@attrs.frozen(eq=False, kw_only=True)
class Run:
    """One answer to a question.

    Attributes:
        codes: of the answer (A,).
        probabilities: of each code at each place of the answer (A, V).
        traces: states and gates of the recurrent layers, by name.
        weights: attention by head (A, Q).
    """

    codes: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    traces: Mapping[str, CellTrace]
    weights: Mapping[str, NDArray[np.float32]]


class QuestionEngine:
    """Answers to questions with states changed and places hidden, shared by all open pages."""

    def __init__(self, subject: QuestionSubject) -> None:
        self.subject = subject
        self._questions = Recent[Question](_KEPT_QUESTIONS)
        self._weights, self._usual = WeightsWatch(subject.model), Recent[_Ranges](1)

    def question(self, text: str) -> Question:
        """Return a question by its text.

        Raises:
            ValueError: it is not accepted; says what is.
        """

        def read() -> Question:
            with evaluation_mode(self.subject.model), torch.inference_mode():
                return self.subject.read(text)

        return self._questions.get(text, read)

    def run(
        self, question: Question, edits: Mapping[str, Sequence[Edit]] | None = None,
        hidden: Sequence[int] = (), head: str | None = None,
    ) -> Run:  # fmt: skip
        """Answer a question; the model is as before afterwards.

        Args:
            question: of `question`.
            edits: of states, by the name of a part.
            hidden: places that are hidden from the attention.
            head: from which they are hidden; None: from all.

        Raises:
            ValueError: an edit, place or head that does not exist, or no place is left; or with
                the edits the answer is not a number.
        """
        attention = question.attention
        calls: Mapping[str, Sequence[Tensor]] = {}
        with (
            evaluation_mode(self.subject.model), torch.inference_mode(),
            contextlib.ExitStack() as stack,
        ):  # fmt: skip
            handles = {
                part.name: stack.enter_context(
                    intervene_on(part.layer, (edits or {}).get(part.name, ()), trace=True)
                )
                for part in question.parts
            }
            if attention is not None:
                stack.enter_context(attention.hide(hidden, head))
                calls = stack.enter_context(attention.record())
            codes, logits = question.answer()
            traces = {name: handle.trace() for name, handle in handles.items()}
            maps = {} if attention is None else attention.of_last(calls)
        probabilities = logits[0].double().softmax(-1).cpu().numpy()
        if not np.isfinite(probabilities).all():
            accepted = "weights and changes with which states are finite"
            raise argument_error("answer", "its probabilities are not numbers", accepted)
        return Run(
            codes=codes[0].cpu().numpy().astype(np.int64), probabilities=probabilities,
            traces=traces,
            weights={name: map_[0].float().cpu().numpy() for name, map_ in maps.items()},
        )  # fmt: skip

    @property
    def usual(self) -> _Ranges:
        """Lowest and highest state of each unit (L, U) over samples, by part, and h or c."""

        def measure() -> _Ranges:
            with evaluation_mode(self.subject.model):
                traces = self.subject.traces()
            return {
                name: {state: _limits(trace.all_quantities()[state]) for state in states_of(trace)}
                for name, trace in traces.items()
            }

        return self._usual.get(self._weights.number(), measure)

    def answer(self, run: Run) -> dict[str, object]:
        """Return an answer as JSON values.

        Of one place: of kind `classes` with `names` and `probabilities`. Of several: `written` with
        `text` and, for each place, `characters`, each with `text`, `probability` and `likeliest`,
        pairs of a character and its probability.
        """
        names, probabilities = list(self.subject.characters), run.probabilities
        if len(probabilities) == 1:
            own = probabilities[0].tolist()
            return {"kind": "classes", "names": names, "probabilities": own}
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_NUM_LIKELIEST]
        characters = [
            {
                "text": names[code], "probability": float(own[code]),
                "likeliest": [[names[other], float(own[other])] for other in likeliest],
            } for code, own, likeliest in zip(run.codes, probabilities, order, strict=True)
        ]  # fmt: skip
        return {"kind": "written", "text": self.subject.decode(run.codes), "characters": characters}

    def steps(self, part: QuestionPart, run: Run) -> list[str]:
        """Return a character for each step of a part: what it writes, or else what it reads."""
        if part.writes:
            return [self.subject.characters[code] for code in run.codes]
        return list(part.read)


def states_of(trace: CellTrace) -> list[str]:
    """Return the names of the states that can be changed: h, and c of an LSTM first."""
    return ["h"] if trace.c is None else ["c", "h"]


def _limits(states: Tensor) -> _Range:
    """Return lowest and highest values (L, U) of states (L, B, T, U)."""
    low, high = states.amin((1, 2)), states.amax((1, 2))
    return low.float().cpu().numpy(), high.float().cpu().numpy()
