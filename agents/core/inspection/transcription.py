"""Errors of a reader of lines, as views."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from visualization import NothingToShow
from visualization.transcription.errors import (
    confusions,
    errors_by_group,
    errors_by_length,
    worst_lines,
)

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol
    from tasks.handwriting.lines import LineTask

NUM_LINES = 1000  # of the test split, at most


def transcription_errors(agent: "AgentProtocol") -> dict[str, Any]:
    """Errors of test lines: by character, by length, by page, and the worst with their pictures.

    Raises:
        NothingToShow: no line has an error.
    """
    task = cast("LineTask", agent.task)
    codes, batch = agent.predict_split("test", NUM_LINES)
    answers, targets = task.decode(codes), task.decode(task.targets(batch))
    pairs = zip(batch.image, np.asarray(batch.width).tolist(), strict=True)
    images = [np.asarray(image[0, :, :width]) for image, width in pairs]
    records: dict[str, Any] = {
        "worst lines": worst_lines(answers, targets, images, task.names_of(batch)),
        "characters": confusions(answers, targets),
        "by length": errors_by_length(answers, targets),
    }
    try:
        pages = task.pages_of(batch)
        records["by page"] = errors_by_group(answers, targets, pages, "page")
    except NothingToShow:  # the lines are of no pages
        return records
    return records
