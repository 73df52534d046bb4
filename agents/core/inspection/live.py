"""The live page of an agent: what it shows follows from the parts that are observed."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agents.core.inspection.live_questions import question_subject
from agents.core.inspection.observation import Observation
from agents.core.inspection.run import NUM_SAMPLES, SnapshotStates, run_source
from tasks.core.settings import ConfigError
from visualization import NothingToShow
from visualization.live.drawings import FOLDER as DRAWINGS
from visualization.live.image_panel import ImagePanel
from visualization.live.images import (
    METHODS,
    ImageEngine,
    ImageSubject,
    Target,
    check_picture_size,
    class_answer,
)
from visualization.live.question_panel import QuestionPanel
from visualization.live.questions import QuestionEngine
from visualization.live.run_panel import RunPanel, RunWatch
from visualization.live.session import Live, LivePanel

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_IMAGES = 1000  # test samples from which a drawing can begin, at most
_NUM_PIXELS = 2**22  # numbers in all of them, at most: 256 pages of 128 by 128
_MASKED = ("occlusion",)  # methods of many passes, which are for classes alone


def live_of(agent: "AgentProtocol", folder: Path | None = None) -> Live:
    """Return what the live page of an agent shows.

    Args:
        agent: the agent; it is unchanged.
        folder: of its run, which is followed, and for drawings; None: the browser saves them.

    Raises:
        NothingToShow: it has no part that can be changed by hand.
    """
    batch = _samples(agent)
    observation: Observation = agent.observe(batch)
    states, engine = SnapshotStates(agent), None
    panels: list[Callable[[], LivePanel]] = []
    if observation.image is not None:
        engine = ImageEngine(_image_subject(agent, observation, states, folder))
        panels.append(functools.partial(ImagePanel, engine))
    questions = question_subject(agent, observation)
    if questions is not None:
        panels.append(functools.partial(QuestionPanel, QuestionEngine(questions)))
    if folder is not None:
        watch = RunWatch(run_source(agent, folder, batch, states, engine))
        is_learning = watch.source.status().get("state") == "running"
        panels.insert(0 if is_learning else len(panels), lambda: RunPanel(watch))
    if not panels:
        raise NothingToShow(f"{agent.name} has neither images nor questions to change by hand")
    return Live(title=f"{agent.name} on {agent.task.name}", panels=panels)


def _samples(agent: "AgentProtocol") -> Any:
    """Return test samples: of images as many as the memory has room for, else those of a run.

    How large an image is, the first one tells.
    """
    task, num = agent.task.for_display(), NUM_SAMPLES
    first: Observation = agent.observe(task.samples("test", 1))
    if first.image is not None:
        num = max(1, min(NUM_IMAGES, _NUM_PIXELS // first.image.images.numel()))
    return task.samples("test", num)


def _image_subject(
    agent: "AgentProtocol", observation: Observation, states: SnapshotStates, folder: Path | None
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
        check_picture_size(content)
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
        states=lambda: states, stamps=states.stamps,
        folder=None if folder is None else folder / DRAWINGS,
    )  # fmt: skip


def _of_first(target: Any, output: Any) -> Tensor:
    """Return a target of the first sample."""
    return cast("Tensor", target(output, 0))


def _has_ink(observation: Observation) -> bool:
    return observation.boxes is not None and observation.boxes.is_ink
