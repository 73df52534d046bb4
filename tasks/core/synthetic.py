"""Sanity-check tasks made from another task: a single batch, and an easy task of the same shapes.

They test whether a model can learn at all, however difficult the task itself is.

>>> import tasks
>>> task = easy_task(tasks.make("parity", length=12, train_length=12))
>>> batch = task.samples("train", 100)  # the label says whether the last bit is below its mean
>>> sorted({(int(bit), int(label)) for bit, label in zip(batch.sequence[:, -1], batch.label[:, 0])})
[(0, 1), (1, 0)]
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core import earlier_names
from tasks.core.batch import Batch
from tasks.core.task import (
    BatchRequest,
    ProbeTargets,
    Row,
    SetTargets,
    Split,
    Task,
    TextChunks,
)

_NUM_EXAMINED = 512  # samples from which the varying step is found
_BALANCED = 0.25  # least share of the samples on either side of the mean


@attrs.frozen(kw_only=True)
class TransformedTask(Task):
    """A task whose batches are those of another task, transformed; it has one stage."""

    base: Task
    transform: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """Name of the other task, marked."""
        return f"{self.base.name}, rewritten"

    @property
    def spec(self) -> Any:
        """Sizes of the other task."""
        return self.base.spec

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Score of the other task."""
        return self.base.monitor

    def num_samples_in(self, split: Split) -> int:
        """Return the number of the other task."""
        return self.base.num_samples_in(split)

    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
        """Yield the transformed batches of the other task."""
        for batch in self.base.iter_batches(request._replace(stage=None)):
            yield self.transform(batch)

    def samples(self, split: Split, num: int, seed: int = 0) -> Any:
        """Return the transformed samples of the other task."""
        return self.transform(self.base.samples(split, num, seed))

    def targets(self, batch: Any) -> Any:
        """Return the right predictions as the other task does."""
        return self.base.targets(batch)

    def encode(self, x: Sequence[Any]) -> Any:
        """Return inputs as a transformed batch."""
        return self.transform(self.base.encode(x))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Decode answers as the other task does."""
        return self.base.decode(answers)

    def score(self, answers: NDArray[Any], targets: Any) -> dict[str, float]:
        """Return the scores of the other task."""
        return self.base.score(answers, targets)

    def rows(self, answers: NDArray[Any], targets: Any) -> list[Row]:
        """Return the rows of the other task."""
        return self.base.rows(answers, targets)

    def probe_targets(self, batch: Any) -> ProbeTargets:
        """Return the probe targets of the other task."""
        return self.base.probe_targets(batch)


def single_batch_task(task: Task, batch: Any) -> TransformedTask:
    """Return a task that has a single batch, repeated."""
    return TransformedTask(base=task, transform=lambda _: batch)


def easy_task(task: Task) -> TransformedTask | None:
    """Return a task of the same shapes that every working model learns; None: there is none.

    It requires that the targets are an array, the batch's second field, and that the first is an
    array with an axis of steps.

    The questions are unchanged. The target is one of two targets of the task: the second if the
    input at one step is above its mean, else the first. The input at a step is a code, or the sum
    of the numbers there (of an image: of a row); the step is the last at which questions differ
    enough. The objects of a set have no order: the one whose numbers sum to most is the only step;
    of a graph there is no such task. Texts of a language-modelling task repeat their first
    character instead.
    """
    batch = task.samples("train", _NUM_EXAMINED)
    if isinstance(batch, TextChunks):
        return TransformedTask(base=task, transform=_repeat_first)
    if isinstance(batch, SetTargets) and batch.edges is not None:
        return None
    if isinstance(batch, Batch) or task.targets(batch) is not batch[1] or np.ndim(batch[0]) < 2:
        return None
    place, mean = _varying_step(_steps(batch))
    first, second = _two_answers(np.asarray(batch[1]))

    def transform(batch: Any) -> Any:
        read = _steps(batch)
        above = read[:, -min(place, read.shape[1])] > mean
        shape = (-1, *[1] * first.ndim)
        return batch._replace(
            **{batch._fields[1]: np.where(above.reshape(shape), second[None], first[None])}
        )

    return TransformedTask(base=task, transform=transform)


def _steps(batch: Any) -> NDArray[np.float64]:
    """Return the input at each step as one number (B, T): of codes, of series, of images."""
    questions = np.asarray(batch[0])
    if isinstance(batch, SetTargets):  # (B, n, F): one step, the object whose numbers sum to most
        return np.asarray(questions.sum(axis=2, dtype=np.float64).max(axis=1)[:, None])
    if questions.ndim == 4:  # (B, C, H, W): a row is a step
        return np.asarray(questions.sum(axis=(1, 3), dtype=np.float64))
    return np.asarray(questions.reshape(*questions.shape[:2], -1).sum(axis=2, dtype=np.float64))


def _varying_step(read: NDArray[np.float64]) -> tuple[int, float]:
    """Return the last step, from the end, that splits inputs (B, T) evenly, and its mean."""
    above = (read > read.mean(axis=0)).mean(axis=0)[::-1]
    balanced = np.minimum(above, 1 - above)
    place = int((balanced >= min(_BALANCED, balanced.max())).argmax())
    return place + 1, float(read[:, -1 - place].mean())


def _two_answers(answers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two answers of (B, …) that differ much: far from the first, and far from that one."""
    flat = answers.reshape(len(answers), -1)

    def farthest(row: int) -> int:
        apart = flat != flat[row] if flat.dtype.kind != "f" else np.abs(flat - flat[row])
        return int(apart.sum(axis=1).argmax())

    second = farthest(0)
    return answers[farthest(second)], answers[second]


def _repeat_first(batch: TextChunks) -> TextChunks:
    """Return texts that repeat one character, each with a reset state.

    The target at each place is then the character that was just read.
    """
    text = np.broadcast_to(batch.text[:, :1], batch.text.shape).copy()
    targets = text.astype(batch.targets.dtype)
    return TextChunks(text, targets, np.ones_like(batch.reset_state))


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
