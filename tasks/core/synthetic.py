"""Tasks made from another one: a single batch again and again, and an easy task of its shapes.

They ask whether a model can learn at all, whatever the task's own difficulty.

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
from tasks.core.task import BatchRequest, ProbeTargets, Row, Split, Task, TextChunks

_LOOKED_AT = 512  # samples, to find what varies from one to the other
_BALANCED = 0.25  # of the samples at least on either side of the mean


@attrs.frozen(kw_only=True)
class TransformedTask(Task):
    """A task whose every batch is another one's, rewritten; it has one stage."""

    base: Task
    rewrite: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """The other task's name, marked."""
        return f"{self.base.name}, rewritten"

    @property
    def spec(self) -> Any:
        """The sizes of the other task."""
        return self.base.spec

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The score of the other task."""
        return self.base.monitor

    @property
    def num_stages(self) -> int:
        """One: that of what the other task asks in the end."""
        return 1

    def for_display(self) -> Task:
        """The task itself."""
        return self

    def num_samples_in(self, split: Split) -> int:
        """Return the number of the other task."""
        return self.base.num_samples_in(split)

    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
        """Yield the other task's batches, rewritten."""
        for batch in self.base.iter_batches(request._replace(stage=None)):
            yield self.rewrite(batch)

    def samples(self, split: Split, num: int, seed: int = 0) -> Any:
        """Return the other task's samples, rewritten."""
        return self.rewrite(self.base.samples(split, num, seed))

    def encode(self, x: Sequence[Any]) -> Any:
        """Return typed questions as a batch, rewritten."""
        return self.rewrite(self.base.encode(x))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers as the other task writes them."""
        return self.base.decode(answers)

    def score(self, answers: NDArray[Any], targets: Any) -> dict[str, float]:
        """Return the scores of the other task."""
        return self.base.score(answers, targets)

    def rows(self, answers: NDArray[Any], targets: Any) -> list[Row]:
        """Return the rows of the other task."""
        return self.base.rows(answers, targets)

    def probe_targets(self, batch: Any) -> ProbeTargets:
        """Return the quantities of the other task."""
        return self.base.probe_targets(batch)


def single_batch_task(task: Task, batch: Any) -> TransformedTask:
    """Return a task that gives this one batch again and again."""
    return TransformedTask(base=task, rewrite=lambda _: batch)


def easy_task(task: Task) -> TransformedTask:
    """Return a task of the same shapes that any working model learns.

    The questions stay. The answer is one of two that the task itself gives, told by whether the
    last thing read is above its mean: a code, or the sum of the numbers at one step (a row of an
    image); the last step at which questions differ enough. Texts that are to go on repeat their
    first character instead.
    """
    batch = task.samples("train", _LOOKED_AT)
    if isinstance(batch, TextChunks):
        return TransformedTask(base=task, rewrite=_repeat_first)
    place, mean = _what_varies(np.asarray(batch[0]))
    first, second = _two_answers(np.asarray(batch[1]))

    def rewrite(batch: Any) -> Any:
        read = _steps(np.asarray(batch[0]))
        above = read[:, -min(place, read.shape[1])] > mean
        shape = (-1, *[1] * first.ndim)
        return batch._replace(
            **{batch._fields[1]: np.where(above.reshape(shape), second[None], first[None])}
        )

    return TransformedTask(base=task, rewrite=rewrite)


def _steps(questions: NDArray[Any]) -> NDArray[np.float64]:
    """Return what is read at each step as one number (B, T): of codes, of series, of images."""
    if questions.ndim == 4:  # (B, C, H, W): a row is a step
        return np.asarray(questions.sum(axis=(1, 3), dtype=np.float64))
    return np.asarray(questions.reshape(*questions.shape[:2], -1).sum(axis=2, dtype=np.float64))


def _what_varies(questions: NDArray[Any]) -> tuple[int, float]:
    """Return the last step, from the end, that splits questions evenly enough, and its mean."""
    read = _steps(questions)
    above = (read > read.mean(axis=0)).mean(axis=0)[::-1]
    balanced = np.minimum(above, 1 - above)
    place = int((balanced >= min(_BALANCED, balanced.max())).argmax())
    return place + 1, float(read[:, -1 - place].mean())


def _two_answers(answers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two of answers (B, …) that lie far apart: from the first, and from that one."""
    flat = answers.reshape(len(answers), -1)

    def farthest(row: int) -> int:
        apart = flat != flat[row] if flat.dtype.kind != "f" else np.abs(flat - flat[row])
        return int(apart.sum(axis=1).argmax())

    second = farthest(0)
    return answers[farthest(second)], answers[second]


def _repeat_first(batch: TextChunks) -> TextChunks:
    """Return texts of one character each; begun anew, for they do not go on from one to the next.

    What comes next is then the character just read.
    """
    text = np.broadcast_to(batch.text[:, :1], batch.text.shape).copy()
    following = text.astype(batch.targets.dtype)
    return TextChunks(text, following, np.ones_like(batch.reset_state))


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
