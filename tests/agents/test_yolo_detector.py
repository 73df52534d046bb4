"""The detector: its anchors and outputs, what it learns in seconds, what inspection sees of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import agents
import tasks
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.yolo_detector import anchors_of
from tasks.core.task import Task
from tasks.handwriting.boxes import box_iou
from tests.conftest import trained_agent

QUICK = {"batch_size": 16, "eval_samples": 16, "steps": 300, "eval_every": 300}


def few_digits(**settings: int) -> Task:
    """Return small pages with few digits."""
    known = {"size": 64, "min_digits": 1, "max_digits": 3, "min_height": 14}
    return tasks.make("digit_pages", **(known | settings))


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Return a detector that has learned for seconds."""
    task = few_digits(min_digits=3, max_digits=6, max_height=16)  # the more, the sooner
    return trained_agent("yolo_detector", task=task, learning_rate=0.01, **QUICK)


def test_it_learns_in_seconds(agent: Agent) -> None:
    """The loss falls a lot, and its parts sum to it."""
    history = agent.history
    parts = [history.series(f"train/loss/{name}")[1] for name in ("box", "objectness", "kind")]
    loss = history.series("train/loss")[1]
    np.testing.assert_allclose(np.sum(parts, axis=0), loss, rtol=1e-5)
    first = agents.make("yolo_detector", task=agent.task, device="cpu", **QUICK)
    batch = agent.task.samples("test", 32)
    before, after = first.mean_loss(batch), agent.mean_loss(batch)
    assert after < 0.5 * before


def test_answers_are_sorted_suppressed_and_on_the_page(agent: Agent) -> None:
    """Boxes of a kind overlap by half at most, the surest come first, and at most so many do."""
    batch = agent.task.samples("test", 8)
    limited = agents.make("yolo_detector", task=agent.task, device="cpu", max_boxes=3, min_score=0)
    every = agents.make("yolo_detector", task=agent.task, device="cpu", min_score=0, nms_iou=1.0)
    assert {len(found.scores) for found in limited.predict_arrays(batch)} == {3}
    assert {len(found.scores) for found in every.predict_arrays(batch)} == {3 * (64 + 16)}
    for found in agent.predict_arrays(batch):
        assert (np.diff(found.scores) <= 0).all()
        assert (found.scores >= agent.config.min_score).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= 64).all()
        overlaps = np.triu(box_iou(found.boxes, found.boxes), 1)
        same = found.kinds[:, None] == found.kinds
        assert overlaps[same].max(initial=0) <= 0.5


@pytest.mark.parametrize("squeeze", [1, 3])
@pytest.mark.parametrize("size", [64, 72, 104])
def test_pages_of_any_size_are_covered(size: int, squeeze: int) -> None:
    """Each prior has an output, also where a side is no multiple of 16, and cells are wide."""
    agent = agents.make(
        "yolo_detector", task=few_digits(size=size), device="cpu", min_score=0, squeeze=squeeze
    )
    batch = agent.task.samples("test", 2)
    rows, columns = -(-size // 16), -(-size // (16 * squeeze))
    assert agent.model(torch.as_tensor(batch.image)).shape == (2, 3 * 5 * rows * columns, 15)
    assert len(agent.predict_arrays(batch)) == 2
    assert np.isfinite(agent.mean_loss(batch))


def test_anchors_are_those_of_the_task_and_stay_with_the_agent(
    agent: Agent, tmp_path: Path
) -> None:
    """Six sizes from training boxes, in the config, so that a checkpoint brings them along."""
    assert agent.config.anchors == anchors_of(agent.task)
    sizes = agent.config.anchor_sizes()
    assert len(sizes) == 6
    assert all(14 <= height <= 24 for _, height in sizes)
    given = "9x12 10x14 12x16 14x18 16x20 20x24"
    made = agents.make("yolo_detector", task=agent.task, device="cpu", anchors=given)
    loaded = agents.load(made.save(tmp_path / "a.safetensors"), device="cpu")
    assert loaded.config.anchors == given


@pytest.mark.parametrize(
    "anchors", ["9x12", "9x12 10x14 12x16 14x18 16x20 20x0", "a b c d e f", ""]
)
def test_anchors_that_are_none_are_refused(anchors: str) -> None:
    """Not six pairs, or a side of 0, is an error that says what is accepted."""
    with pytest.raises(ConfigError, match=r"anchors: .*six widths and heights"):
        agents.make("yolo_detector", task=few_digits(), device="cpu", anchors=anchors)


def test_a_task_without_boxes_gives_no_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages on which nothing is cannot be learned from, and the error says so."""
    task = few_digits()
    monkeypatch.setattr(type(task), "box_sizes", lambda task: np.zeros((0, 2)))
    with pytest.raises(ConfigError, match="no boxes to find anchors of"):
        agents.make("yolo_detector", task=task, device="cpu")


def test_pages_without_boxes_are_learned_from() -> None:
    """A batch in which some page, or every one, has no box has a finite loss and gradient."""
    agent = agents.make("yolo_detector", task=few_digits(), device="cpu", mosaic=1.0)
    batch = agent.task.samples("train", 2)
    nothing = batch._replace(
        boxes=[batch.boxes[0], batch.boxes[1][:0]], kinds=[batch.kinds[0], batch.kinds[1][:0]]
    )
    empty = nothing._replace(
        boxes=[boxes[:0] for boxes in batch.boxes], kinds=[kinds[:0] for kinds in batch.kinds]
    )
    for pages in (nothing, empty):
        assert np.isfinite(agent.mean_loss(pages))


def test_inspection_sees_boxes_and_the_scores_of_the_surest(agent: Agent) -> None:
    """Targets are the scores of kept boxes, as answered; detections are drawn."""
    batch = agent.task.samples("test", 4)
    seen = agent.observe(batch)
    output = agent.model.eval()(torch.as_tensor(batch.image))
    assert seen.boxes is not None
    for sample, found in enumerate(seen.boxes.found):
        for rank in range(min(3, len(found.scores))):
            target = seen.targets[f"score of box {rank + 1}"]
            assert target(output, sample)[sample].item() == pytest.approx(
                found.scores[rank], rel=1e-4
            )
    record = agent.inspect(["detections"])["detections"]
    assert len(record.images) == 6
    assert record.is_ink
