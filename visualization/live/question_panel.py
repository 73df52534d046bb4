"""Panel of the live page for questions: type one, see the cells, change a unit, hide a place."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.live.messages import Arguments, Reply
from visualization.live.questions import Question, QuestionEngine, QuestionPart, Run, states_of
from visualization.live.session import Call, LivePanel
from visualization.recurrent.cells import CellTrace
from visualization.recurrent.edits import Edit

ORDERS = ("number", "strongest", "change")  # of units
LONGEST = 300  # characters of a question
_EDITS, _MOST_ROWS = 256, 256
_NUM_SAMPLES = 8  # questions that are offered


@attrs.frozen(eq=False, kw_only=True)
class _Chosen:
    """The layer and quantity that a page shows: a part, and the number of layer and direction."""

    part: QuestionPart
    layer: int
    quantity: str

    def values(self, run: Run) -> NDArray[np.float32]:
        """Return the values of the units at each step (U, T)."""
        quantities = run.traces[self.part.name].all_quantities()
        return quantities[self.quantity][self.layer, 0].float().cpu().numpy().T


@final
class QuestionPanel(LivePanel):
    """Panel for questions: replies to what the page asks; it keeps no state of a page."""

    name: ClassVar[str] = "question"

    def __init__(self, engine: QuestionEngine) -> None:
        self._engine, self._subject = engine, engine.subject

    @property
    def calls(self) -> Mapping[str, Call]:
        """What the page can call."""
        return {"read": self._read, "frame": self._frame}

    def describe(self) -> Mapping[str, Any]:
        """Return samples, parts with their layers and quantities, and heads of attention."""
        question = self._engine.question(self._subject.samples[0])
        traces, attention = self._engine.run(question).traces, question.attention
        return {
            "title": "Questions", "samples": list(self._subject.samples[:_NUM_SAMPLES]),
            "longest": LONGEST, "orders": ORDERS,
            "parts": [_part_in_words(part, traces[part.name]) for part in question.parts],
            "heads": [] if attention is None else list(attention.heads),
        }  # fmt: skip

    def _read(self, arguments: Arguments) -> Reply:
        """Return the sizes of a question, after which edits and hidden places can be kept."""
        question = self._question(arguments)
        return Reply(
            {
                "question": question.text, "target": question.target,
                "steps": {part.name: len(part.read) for part in question.parts},
                "num_read": len(question.read),
            }
        )  # fmt: skip

    def _question(self, arguments: Arguments) -> Question:
        return self._engine.question(arguments.text("question", LONGEST))

    def _frame(self, arguments: Arguments) -> Reply:
        """Return answer, visible cells and attention, each beside that of the untouched run."""
        engine, question = self._engine, self._question(arguments)
        edits, (hidden, hidden_from) = (
            self._edits(arguments, question),
            _hidden(arguments, question),
        )
        untouched = engine.run(question)
        is_changed = bool(edits or hidden)
        run = engine.run(question, edits, hidden, hidden_from) if is_changed else untouched
        data: dict[str, Any] = {
            "question": question.text, "target": question.target, "answer": engine.answer(run),
            "untouched": engine.answer(untouched) if is_changed else None,
        }  # fmt: skip
        buffers: list[bytes] = []
        if question.parts:
            chosen = self._chosen(arguments, question, untouched)
            data["cells"] = self._cells(arguments, chosen, run, untouched, buffers)
            if arguments.given("unit"):
                data["unit"] = self._unit(arguments, chosen, run, untouched)
        if question.attention is not None:
            head = arguments.choice("head", list(question.attention.heads))
            written = [self._subject.characters[code] for code in run.codes]
            data["attention"] = {"head": head, "written": written, "read": list(question.read)}
            buffers += [each.weights[head].astype("<f4").tobytes() for each in (run, untouched)]
        return Reply(data, buffers)

    def _chosen(self, arguments: Arguments, question: Question, run: Run) -> _Chosen:
        part = _part(arguments, question)
        trace = run.traces[part.name]
        return _Chosen(
            part=part, layer=arguments.integer("layer", 0, len(trace.h) - 1),
            quantity=arguments.choice("quantity", list(trace.all_quantities())),
        )  # fmt: skip

    def _cells(
        self, arguments: Arguments, chosen: _Chosen, run: Run, untouched: Run, buffers: list[bytes]
    ) -> dict[str, Any]:
        """Return the order of the units; the values of the visible ones are added to `buffers`."""
        values, before = chosen.values(run), chosen.values(untouched)
        order = _order(arguments.choice("order", ORDERS), values, before)
        first = arguments.integer("first", 0, 10**9)
        units = order[first : first + arguments.integer("num", 1, _MOST_ROWS)]
        buffers += [np.ascontiguousarray(each[units], "<f4").tobytes() for each in (values, before)]
        return {
            "part": chosen.part.name, "layer": chosen.layer, "quantity": chosen.quantity,
            "steps": self._engine.steps(chosen.part, run), "order": order.tolist(),
            "first": first, "limit": float(np.abs(before).max(initial=0)) or 1.0,
        }  # fmt: skip

    def _unit(
        self, arguments: Arguments, chosen: _Chosen, run: Run, untouched: Run
    ) -> dict[str, Any]:
        """Return the states of one unit at one step, and their usual range with 0."""
        name, layer = chosen.part.name, chosen.layer
        num_steps, num_units = run.traces[name].h.shape[2:]
        unit = arguments.integer("unit", 0, num_units - 1)
        step = arguments.integer("step", 0, num_steps - 1)

        def value(each: Run, state: str) -> float:
            return float(each.traces[name].all_quantities()[state][layer, 0, step, unit])

        states = {}
        for state in states_of(run.traces[name]):
            now, before = value(run, state), value(untouched, state)
            low, high = (float(limits[layer, unit]) for limits in self._engine.usual[name][state])
            states[state] = {
                "now": now, "untouched": before,
                "low": min(low, before, 0.0), "high": max(high, before, 0.0),
            }  # fmt: skip
        return {"unit": unit, "step": step, "states": states}

    def _edits(self, arguments: Arguments, question: Question) -> dict[str, list[Edit]]:
        """Return edits by part: of each `part`, `layer`, `unit`, `h`, `c`, and `time` or none."""
        edits: dict[str, list[Edit]] = {}
        for each in arguments.items("edits", _EDITS):
            part = _part(each, question)
            num_directions = 2 if part.layer.bidirectional else 1
            row = each.integer("layer", 0, part.layer.num_layers * num_directions - 1)
            layer, direction = divmod(row, num_directions)
            given = each.given
            edit = Edit(
                units=[each.integer("unit", 0, part.layer.hidden_size - 1)],
                time=each.integer("time", 0, len(part.read) - 1) if given("time") else None,
                h=each.number("h") if given("h") else None,
                c=each.number("c") if given("c") else None, layer=layer, direction=direction,
            )  # fmt: skip
            edits.setdefault(part.name, []).append(edit)
        return edits


def _part(arguments: Arguments, question: Question) -> QuestionPart:
    names = [part.name for part in question.parts]
    return question.parts[names.index(arguments.choice("part", names))]


def _hidden(arguments: Arguments, question: Question) -> tuple[list[int], str | None]:
    """Return the hidden places, and the head from which they are hidden; None: from all."""
    if question.attention is None or not arguments.given("hidden"):
        return [], None
    heads = list(question.attention.heads)
    places = arguments.integers("hidden", 0, len(question.read) - 1)
    return places, arguments.choice("hidden_from", heads) if arguments.given(
        "hidden_from"
    ) else None


def _order(
    order: str, values: NDArray[np.float32], before: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the units (U,) by number, or by their largest value or change, largest first."""
    if order == "number":
        return np.arange(len(values))
    shown = values if order == "strongest" else values - before
    return np.argsort(-np.abs(shown).max(axis=1), kind="stable")


def _part_in_words(part: QuestionPart, trace: CellTrace) -> dict[str, Any]:
    quantities = list(trace.all_quantities())
    return {
        "name": part.name, "layers": [trace.layer_name(row) for row in range(len(trace.h))],
        "quantities": quantities, "states": states_of(trace), "num_units": trace.h.shape[3],
        "directions": trace.num_directions,
    }  # fmt: skip
