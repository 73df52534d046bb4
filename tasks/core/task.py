"""The contract of a task: it supplies data and scores answers, and knows nothing of models."""

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, final

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

Split = Literal["train", "validation", "test"]
Array = Any  # of numpy in a task; in an agent a tensor on its device, codes as int64
Predictions = NDArray[Any] | Sequence[Any]  # (batch, …), or one entry per sample
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TextPairs(NamedTuple):
    """Questions and answers in codes: (batch, question_length) and (batch, answer_length)."""

    question: Array
    answer: Array


@attrs.frozen
class TextToText:
    """The sizes of a task that answers a text of fixed length with a text of fixed length."""

    characters: str  # a code is a position in this string; code 0 pads and begins every answer
    question_length: int  # characters, padding included
    answer_length: int  # characters, padding included


class TextLabels(NamedTuple):
    """Texts in codes (batch, time), and the label of each (batch, 1)."""

    sequence: Array
    label: Array


@attrs.frozen
class TextToLabel:
    """The sizes of a task that answers a text of any length with one label."""

    characters: str  # a code is a position in this string
    labels: tuple[str, ...]  # a label is a position here


class SeriesNumbers(NamedTuple):
    """Series of numbers (batch, time, channels), float32, and the answer to each (batch, 1)."""

    series: Array
    number: Array


@attrs.frozen
class SeriesToNumber:
    """The sizes of a task that answers a series of any length with one number."""

    num_channels: int  # numbers at each time step


class ImageLabels(NamedTuple):
    """Images (batch, channels, height, width), float32 in [0, 1], and labels (batch, 1)."""

    image: Array
    label: Array


@attrs.frozen
class ImageToLabel:
    """The sizes of a task that answers an image with one label."""

    num_channels: int
    height: int  # pixels
    width: int  # pixels
    labels: tuple[str, ...]  # a label is a position here
    # Whether they are scans of handwriting, 1 being ink, in which strokes can be told; no size.
    is_handwriting: bool = attrs.field(default=False, eq=False, repr=False)


class TextChunks(NamedTuple):
    """Pieces of long texts in codes (batch, time), and for each place the code that comes next.

    Row i of a batch goes on where row i of the batch before ended, unless `begins` says that it
    stands at the beginning of a text.
    """

    text: Array
    following: Array  # (batch, time)
    begins: Array  # (batch,) bool


@attrs.frozen
class TextToNext:
    """The sizes of a task that tells how a text goes on, character by character."""

    characters: str  # a code is a position in this string
    chunk: int  # characters of one training sample


class Pass(NamedTuple):
    """One pass over a split, from a batch on; see `Task.batches`."""

    split: Split
    batch_size: int
    seed: int
    epoch: int
    start: int
    stage: int | None

    def slices(self, num_samples: int) -> Iterator[slice]:
        """Yield where each batch lies in a pass over so many samples; the last may be short."""
        size = self.batch_size
        for first in range(self.start * size, num_samples, size):
            yield slice(first, min(first + size, num_samples))


class Row(NamedTuple):
    """One answered question as a person reads it."""

    question: str
    answer: str
    target: str
    right: bool
    brief: str = ""  # the question in few words, where it is long


class Quantities(NamedTuple):
    """What a person can say of a batch at every moment, by name, for probes of a network's states.

    Each is an array (batch, time), or (batch,) for what holds all the time. Integers are categories
    (negative: not defined there), floats are numbers (NaN: not defined there).
    """

    reading: Mapping[str, NDArray[Any]]  # time is the place in the question, as it is read
    writing: Mapping[str, NDArray[Any]]  # time is the place in the answer, as it is written
    places: tuple[str, str] = ("", "")  # of each, the quantity that says which place a step is at


@attrs.frozen(kw_only=True)
class Task(abc.ABC):
    """Data and scores of one problem. Subclasses are frozen attrs classes of settings.

    A batch is a NamedTuple of arrays whose first axis is the sample.
    """

    @property
    def name(self) -> str:
        """The registered name that makes this task, such as `add3x3`; else that of its class."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def spec(self) -> Any:
        """The sizes that an agent builds its model from; None, unless a task says them."""
        return None

    @property
    @abc.abstractmethod
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The score that says which of two agents is better, and in which direction."""

    @property
    def num_stages(self) -> int:
        """How many stages of training data there are, from easy to what is asked; 1: no others."""
        return 1

    @property
    def viewed(self) -> "Task":
        """The task with questions of a length that a person can look at: itself, or shorter."""
        return self

    @abc.abstractmethod
    def num_samples_in(self, split: Split) -> int:
        """Return how many samples one pass over a split has (an epoch, for `train`)."""

    @abc.abstractmethod
    def draw(self, wanted: Pass) -> Iterator[Any]:
        """Yield the batches of a pass: a pure function of it."""

    @final
    def batches(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        epoch: int,
        start: int = 0,
        stage: int | None = None,
    ) -> Iterator[Any]:
        """Yield the batches of one epoch from number `start` on: a pure function of its arguments.

        So the whole cursor of a run is three integers: `epoch`, `start` and `stage`, from 0 for the
        easiest; None: what is asked in the end.
        """
        return self.draw(Pass(split, batch_size, seed, epoch, start, stage))

    def samples(self, split: Split, num: int, seed: int = 0) -> Any:
        """Return one batch of at most `num` samples of a split; another seed, other samples.

        The first batch of a pass, unless a task has another way.
        """
        return next(self.batches(split, num, seed, 0))

    def encode(self, x: Sequence[Any]) -> Any:
        """Return what people typed, drew or hold as the model's input batch.

        Each is a text, such as a question or the path of an image, or an array, as the task says; a
        bad one is a ConfigError. A task that does not say how refuses all.
        """
        accepted = "a task that has `encode`; `agent.predict_arrays(batch)` answers a batch"
        raise ConfigError(self.name, "", "takes no input from a person", accepted)

    def decode(self, answers: Any) -> list[str]:
        """Return answers (batch, …) as what a person reads: numbers with four digits."""
        return [np.array2string(np.asarray(answer), precision=4) for answer in answers]

    @abc.abstractmethod
    def score(self, answers: Any, targets: Any) -> dict[str, float]:
        """Return the scores of answers against the batch that asked them."""

    def targets(self, batch: Any) -> Any:
        """Return the right predictions of a batch, in the form in which agents give theirs.

        An array (batch, …), or a list with one entry per sample; the batch's second field, unless a
        task says otherwise.
        """
        return batch[1]

    def rows(self, answers: Any, targets: Any) -> list[Row]:
        """Return question, answer and target of each sample of a batch in readable form.

        By default samples are numbered, and an answer is right if it reads as the target does.
        """
        read = zip(self.decode(answers), self.decode(self.targets(targets)), strict=True)
        return [Row(f"sample {n}", a, b, a == b) for n, (a, b) in enumerate(read)]

    def quantities(self, batch: Any) -> Quantities:
        """Return what there is to know of a batch at each moment; empty where there is nothing."""
        return Quantities({}, {})


def num_batches(task: Task, batch_size: int) -> int:
    """Return the number of training batches in one epoch (the last one may be short)."""
    return -(-task.num_samples_in("train") // batch_size)


def doubled(first: int, last: int) -> tuple[int, ...]:
    """Return lengths of stages: from the first, each twice the one before, to the last.

    >>> doubled(10, 50)
    (10, 20, 40, 50)
    """
    found = [min(first, last)]
    while found[-1] < last:
        found.append(min(2 * found[-1], last))
    return tuple(found)
