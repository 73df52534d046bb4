"""The live page of an agent: what it shows follows from the parts that are observed."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.core.inspection.live_questions import question_subject
from agents.core.inspection.observation import Observation
from tasks.core.settings import ConfigError
from visualization import NothingToShow
from visualization.live.drawings import FOLDER as DRAWINGS
from visualization.live.image_panel import ImagePanel
from visualization.live.images import (
    METHODS,
    ImageEngine,
    ImageSubject,
    Target,
    class_answer,
)
from visualization.live.question_panel import QuestionPanel
from visualization.live.questions import QuestionEngine
from visualization.live.session import Live, Panel

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_IMAGES = 1000  # test samples from which a drawing can begin, at most
_NUM_PIXELS = 2**22  # numbers in all of them, at most: 256 pages of 128 by 128
_MASKED = ("occlusion",)  # methods of many passes, which are for classes alone


def live_of(agent: "AgentProtocol", folder: Path | None = None) -> Live:
    """Return what the live page of an agent shows.

    Args:
        agent: the agent; it is unchanged.
        folder: of its run, for drawings; None: the browser saves them.

    Raises:
        NothingToShow: it has no part that can be changed by hand.
    """
    observation = _observation(agent)
    panels: list[Callable[[], Panel]] = []
    if observation.image is not None:
        engine = ImageEngine(_image_subject(agent, observation, folder))
        panels.append(lambda: ImagePanel(engine))
    questions = question_subject(agent, observation)
    if questions is not None:
        asked = QuestionEngine(questions)
        panels.append(lambda: QuestionPanel(asked))
    if not panels:
        raise NothingToShow(f"{agent.name} has neither images nor questions to change by hand")
    return Live(title=f"{agent.name} on {agent.task.name}", panels=panels)


def _observation(agent: "AgentProtocol") -> Observation:
    """Return the observation of as many test samples as the memory has room for.

    How large an image is, the first one tells.
    """
    task = agent.task.for_display()
    first: Observation = agent.observe(task.samples("test", 1))
    if first.image is None:
        return first
    num = max(1, min(NUM_IMAGES, _NUM_PIXELS // first.image.images.numel()))
    observation: Observation = agent.observe(task.samples("test", num))
    return observation


def _image_subject(
    agent: "AgentProtocol", observation: Observation, folder: Path | None
) -> ImageSubject:
    """Return what is shown of an agent's images."""
    part = observation.image
    assert part is not None
    classes = tuple(observation.classes[0]) if observation.classes else ()
    batch_of = part.batch_of

    def targets(image: Tensor) -> Mapping[str, Target]:
        """Return the targets of one image: functions of the raw output alone."""
        if batch_of is None:
            return {}
        found = agent.observe(batch_of(image.cpu())).targets
        return {name: functools.partial(_of_first, each) for name, each in found.items()}

    def read_file(content: bytes) -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "upload"
            path.write_bytes(content)
            try:
                read = agent.observe(agent.task.encode([str(path)])).image
            except ConfigError as error:
                raise ValueError(str(error).replace(str(path), "upload")) from None
        assert read is not None
        return np.asarray(read.images[0].numpy(), np.float32)

    model = part.model
    return ImageSubject(
        model=model, images=np.asarray(part.images.numpy(), np.float32), classes=classes,
        names=[f"{row.question}: {row.target}" for row in observation.rows],
        answer=part.answer or (lambda image: class_answer(model(image), classes)),
        targets=targets, methods=[name for name in METHODS if classes or name not in _MASKED],
        read_file=read_file, is_ink=part.is_handwriting or _has_ink(observation),
        states=_States(agent).of_all_steps, folder=None if folder is None else folder / DRAWINGS,
    )  # fmt: skip


def _of_first(target: Any, output: Any) -> Tensor:
    """Return a target of the first sample."""
    return cast("Tensor", target(output, 0))


def _has_ink(observation: Observation) -> bool:
    return observation.boxes is not None and observation.boxes.is_ink


@final
class _States:
    """Weights of an agent's snapshots, which are read again when there are others."""

    def __init__(self, agent: "AgentProtocol") -> None:
        self._agent, self._steps = agent, [-1]
        self._states: Mapping[int, Mapping[str, Any]] = {}

    def of_all_steps(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the weights by step."""
        steps = self._agent.snapshots.steps()
        if steps != self._steps:
            self._states = self._agent.snapshots.states(lambda message: None)
            self._steps = steps
        return self._states
