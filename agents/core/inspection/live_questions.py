"""Questions of the live page: what it shows of an agent that reads a typed text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from agents.core.inspection.observation import Observation, RecurrentPart
from tasks.core.settings import ConfigError
from visualization.live.question_panel import LONGEST
from visualization.live.questions import Question, QuestionPart, QuestionSubject

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol
    from visualization.recurrent.cells import CellTrace

_NUM_SAMPLES = 64  # questions, and samples from which the usual range of units is known


def question_subject(agent: "AgentProtocol", observation: Observation) -> QuestionSubject | None:
    """Return what is shown of an agent's questions; None: it does not read their characters.

    Args:
        agent: the agent.
        observation: of samples, whose questions can be started from.
    """
    if observation.image is not None or observation.generate is None or not observation.characters:
        return None
    samples = [row.question[-LONGEST:] for row in observation.rows[:_NUM_SAMPLES]]

    def read(text: str) -> Question:
        own = agent.observe(agent.task.encode([text]))
        assert own.generate is not None
        with torch.inference_mode():
            num_written = own.generate()[0].shape[1]
        looks = [part for part in own.attention if part.weights is not None]
        return Question(
            text=text, target=own.rows[0].target, answer=own.generate,
            parts=[_part(part, num_written) for part in own.recurrent],
            attention=looks[0].weights if looks else None,
            read=_symbols(looks[0].read) if looks else (),
        )  # fmt: skip

    try:
        first = read(samples[0])
    except ConfigError:  # what the task takes from a person is not the text of a question
        return None
    symbols = {*first.read, *(symbol for part in first.parts for symbol in part.read)}
    if sum(character in symbols for character in samples[0]) <= len(samples[0]) / 2:
        return None  # spaces and newlines may be read as other symbols than those that are typed

    def decode(codes: NDArray[np.int64]) -> str:
        return agent.task.decode(codes[None])[0]

    def traces() -> "Mapping[str, CellTrace]":
        own: Observation = agent.observe(agent.task.for_display().samples("test", _NUM_SAMPLES))
        return own.traces

    return QuestionSubject(
        model=observation.model, samples=samples, characters=observation.characters,
        decode=decode, read=read, traces=traces,
    )  # fmt: skip


def _part(part: RecurrentPart, num_written: int) -> QuestionPart:
    """Return a recurrent part; it writes the answer if it has as many steps as that."""
    written = part.output_text
    return QuestionPart(
        name=part.name, layer=part.layer, read=_symbols(part.input_text),
        writes=written is not None and 1 < num_written == written.shape[1],
    )  # fmt: skip


def _symbols(text: NDArray[np.str_] | None) -> list[str]:
    """Return the symbols of the only sample (1, T)."""
    return [] if text is None else [str(symbol) for symbol in text[0]]
