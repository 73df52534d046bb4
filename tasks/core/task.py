"""The contract of a task: it supplies data and scores answers, and knows nothing of models."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import attrs
from numpy.typing import NDArray

from tasks.core import earlier_names

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TextPairs(NamedTuple):
    """Questions and answers in codes: (batch, question_length) and (batch, answer_length)."""

    question: NDArray[Any]
    answer: NDArray[Any]


@attrs.frozen
class TextToText:
    """The sizes of a task that answers a text of fixed length with a text of fixed length."""

    characters: str  # a code is a position in this string; code 0 pads and begins every answer
    question_length: int  # characters, padding included
    answer_length: int  # characters, padding included


class TextLabels(NamedTuple):
    """Texts in codes (batch, time), and the label of each (batch, 1)."""

    sequence: NDArray[Any]
    label: NDArray[Any]


@attrs.frozen
class TextToLabel:
    """The sizes of a task that answers a text of any length with one label."""

    characters: str  # a code is a position in this string
    labels: tuple[str, ...]  # a label is a position here


class SeriesNumbers(NamedTuple):
    """Series of numbers (batch, time, channels), float32, and the answer to each (batch, 1)."""

    series: NDArray[Any]
    number: NDArray[Any]


@attrs.frozen
class SeriesToNumber:
    """The sizes of a task that answers a series of any length with one number."""

    num_channels: int  # numbers at each time step


class ImageLabels(NamedTuple):
    """Images (batch, channels, height, width), float32 in [0, 1], and labels (batch, 1)."""

    image: NDArray[Any]
    label: NDArray[Any]


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

    Row i of a batch goes on where row i of the batch before ended, unless `reset_state` says that
    it is the beginning of a text.
    """

    text: NDArray[Any]
    targets: NDArray[Any]  # (batch, time)
    reset_state: NDArray[Any]  # (batch,) bool


@attrs.frozen
class LanguageModelSpec:
    """The sizes of a task that tells how a text goes on, character by character."""

    characters: str  # a code is a position in this string
    block_size: int  # characters of one training sample


class BatchRequest(NamedTuple):
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
    correct: bool
    short_question: str = ""  # the question in few words, where it is long


class ProbeTargets(NamedTuple):
    """What a person can say of a batch at every moment, by name, for probes of a network's states.

    Each is an array (batch, time), or (batch,) for what holds all the time. Integers are categories
    (negative: not defined there), floats are numbers (NaN: not defined there).
    """

    encoder: Mapping[str, NDArray[Any]]  # time is the place in the question, as it is read
    decoder: Mapping[str, NDArray[Any]]  # time is the place in the answer, as it is written
    position_keys: tuple[str, str] = ("", "")  # names in each of what says where a step is


@attrs.frozen(kw_only=True)
class Task(abc.ABC):
    """Data and scores of one problem. Subclasses are frozen attrs classes of settings.

    A batch is a NamedTuple of arrays whose first axis is the sample.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Accept a task that is written with the earlier names of what a task defines."""
        super().__init_subclass__(**arguments)
        earlier_names.adopt_members(cls)

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The registered name that makes this task, such as `add3x3`."""

    @property
    @abc.abstractmethod
    def spec(self) -> Any:
        """The sizes that an agent builds its model from."""

    @property
    @abc.abstractmethod
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The score that says which of two agents is better, and in which direction."""

    @property
    @abc.abstractmethod
    def num_stages(self) -> int:
        """How many stages of training data there are, from easy to what is asked; 1: no others."""

    @abc.abstractmethod
    def for_display(self) -> "Task":
        """The task with questions of a length that a person can look at: itself, or shorter."""

    @abc.abstractmethod
    def num_samples_in(self, split: Split) -> int:
        """Return how many samples one pass over a split has (an epoch, for `train`)."""

    @abc.abstractmethod
    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
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
        return self.iter_batches(BatchRequest(split, batch_size, seed, epoch, start, stage))

    @abc.abstractmethod
    def samples(self, split: Split, num: int, seed: int = 0) -> Any:
        """Return one batch of at most `num` samples of a split; another seed, other samples."""

    @abc.abstractmethod
    def encode(self, x: Sequence[Any]) -> Any:
        """Return what people typed, drew or hold as the model's input batch.

        Each is a text, such as a question or the path of an image, or an array, as the task says; a
        bad one is a ConfigError.
        """

    @abc.abstractmethod
    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, …) as what a person reads."""

    @abc.abstractmethod
    def score(self, answers: NDArray[Any], targets: Any) -> dict[str, float]:
        """Return the scores of answers against the batch that asked them."""

    @abc.abstractmethod
    def rows(self, answers: NDArray[Any], targets: Any) -> list[Row]:
        """Return question, answer and target of each sample in readable form."""

    @abc.abstractmethod
    def probe_targets(self, batch: Any) -> ProbeTargets:
        """Return what there is to know of a batch at each moment; empty where there is nothing."""


def num_batches(task: Task, batch_size: int) -> int:
    """Return the number of training batches in one epoch (the last one may be short)."""
    return -(-task.num_samples_in("train") // batch_size)


def doubling_lengths(first: int, last: int) -> tuple[int, ...]:
    """Return lengths of stages: from the first, each twice the one before, to the last.

    >>> doubling_lengths(10, 50)
    (10, 20, 40, 50)
    """
    found = [min(first, last)]
    while found[-1] < last:
        found.append(min(2 * found[-1], last))
    return tuple(found)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
    for _class in (Task, Row, ProbeTargets, TextChunks, LanguageModelSpec):
        _class.__getattr__ = earlier_names.member
