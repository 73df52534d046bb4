"""Views of what an answer depends on: characters of the question, and the gates they go through."""

import collections
import unicodedata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.inspection.observation import Observation, RecurrentPart
from agents.core.inspection.views import Views, view
from visualization import NothingToShow
from visualization.recurrent import (
    GatePaths,
    QuestionRelevance,
    StepScores,
    gate_paths,
    question_relevance,
)
from visualization.recurrent.gate_paths import GATES

NUM_QUESTIONS = 6  # of the view of their characters, at most
NUM_PAIRS, NUM_SEARCHED = 16, 200  # pairs of questions of path patching, among so many samples
MOST_STEPS = 16  # through which path patching follows a change
COST = 1.5e9  # multiplications of the reading layer, of a view: so long questions are fewer
RUNS = 400  # of each question, by all methods


class RelevanceViews(Views):
    """Views of attribution to what the first recurrent layer reads."""

    def _scores(self, num: int) -> tuple[Observation, StepScores]:
        observation = self._observe(self._task.for_display().samples("test", num))
        assert observation.answer_scores is not None
        scores = StepScores(
            model=self._model, rnn=observation.recurrent[0].layer,
            respond=observation.answer_scores.scores, num_samples=len(observation.rows),
        )  # fmt: skip
        return observation, scores

    @view("answer scores")
    def question_relevance(self) -> QuestionRelevance:
        """Question relevance: which characters of a question each character of the answer needs."""
        observation, _ = self._scores(1)
        observation, scores = self._scores(_affordable(observation, RUNS, NUM_QUESTIONS))
        assert observation.answer_scores is not None
        return question_relevance(
            scores, _symbols(observation.recurrent[0]), observation.answer_scores.texts,
            quantity=observation.answer_scores.quantity,
        )  # fmt: skip

    @view("answer scores")
    def gate_paths(self) -> dict[str, GatePaths]:
        """Gate paths: which gate lets a changed character of the question in, and when."""
        observation, scores = self._scores(NUM_SEARCHED)
        part = observation.recurrent[0]
        if part.layer.mode not in GATES:
            raise NothingToShow(f"{part.name}: an nn.RNN has no gates")
        inputs = scores.read()[0]
        first = max(0, inputs.shape[1] - MOST_STEPS)
        runs = len(GATES[part.layer.mode]) * (inputs.shape[1] - first)
        step, samples, donors = pairs(part, _affordable(observation, runs, NUM_PAIRS), first)
        rows = torch.as_tensor(samples, device=inputs.device)
        corrupted = inputs[rows]
        corrupted[:, step] = inputs[torch.as_tensor(donors, device=inputs.device), step]
        symbols = _symbols(part)
        changed = np.full(corrupted.shape[:2], "", symbols.dtype)
        changed[:, step] = symbols[donors, step]
        answer_scores = observation.answer_scores
        assert answer_scores is not None
        own = StepScores(
            model=self._model, rnn=part.layer, num_samples=len(samples),
            respond=lambda numbers: answer_scores.scores(rows[numbers]),
        )  # fmt: skip
        num_directions = 2 if part.layer.bidirectional else 1
        return {
            part.name if part.layer.num_layers * num_directions == 1 else
            f"{part.name}, layer {layer}" + (" backwards" if direction else ""): gate_paths(
                own, corrupted, symbols[samples], changed, answer_scores.texts[samples],
                quantity=answer_scores.quantity, layer=layer, direction=direction,
            )
            for layer in range(part.layer.num_layers)
            for direction in range(num_directions)
        }  # fmt: skip


def _affordable(observation: Observation, runs: int, most: int) -> int:
    """Return how many questions, each run so often, the budget allows: from 1 to `most`."""
    part = observation.recurrent[0]
    size = sum(parameter.numel() for parameter in part.layer.parameters())
    return int(np.clip(COST // (runs * part.input_text.shape[1] * size), 1, most))


def pairs(
    part: RecurrentPart, most: int, first: int = 0
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Return a step, samples, and for each another that reads another symbol of its kind there.

    So with the other symbol a question is mostly a question too: a digit is in place of a digit. Of
    the steps from `first` on it is the first at which half as many samples read letters or digits
    as at any of them; signs are only changed where nothing else is read.

    Raises:
        NothingToShow: there are no such two samples.
    """
    symbols = _symbols(part)
    kinds = np.array([[_kind(symbol) for symbol in row] for row in symbols])
    is_changed = np.isin(kinds, ["L", "N"])
    if not is_changed[:, first:].any():
        is_changed[:] = True
    counts = is_changed[:, first:].sum(axis=0)
    for step in first + np.flatnonzero(2 * counts >= counts.max()):
        groups: dict[str, list[int]] = collections.defaultdict(list)
        for sample in np.flatnonzero(is_changed[:, step]):
            groups[kinds[sample, step]].append(int(sample))
        found = [
            (sample, other)
            for members in groups.values()
            for sample, other in zip(members, members[1:] + members[:1], strict=True)
            if symbols[sample, step] != symbols[other, step]
        ]
        if found:
            samples, donors = np.array(found[:most]).T
            return int(step), samples, donors
    raise NothingToShow("no two questions have another symbol of one kind at the same step")


def _symbols(part: RecurrentPart) -> NDArray[np.str_]:
    """Return what is read at each step in one character, where there is such (N, T)."""
    return part.text if part.input_symbols is None else part.input_symbols


def _kind(symbol: Any) -> str:
    """Return the kind of a symbol's first character: L a letter, N a digit, P a sign and so on."""
    return unicodedata.category(symbol[0])[0] if symbol else ""
