"""Base class of tasks: a task supplies data and scores answers, and is independent of models."""

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core import earlier_names
from tasks.core.settings import ConfigError

Split = Literal["train", "validation", "test"]
Array = Any  # of numpy in a task; in an agent a tensor on its device, codes as int64
Predictions = NDArray[Any] | Sequence[Any]  # (batch, …), or one entry per sample
EPOCH_SAMPLES = 50_000  # per epoch of tasks whose every sample is new
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TextPairs(NamedTuple):
    """Questions and answers in codes: (batch, question_length) and (batch, answer_length)."""

    question: Array
    answer: Array


@attrs.frozen
class TextToText:
    """Sizes of a sequence-to-sequence task with texts of fixed lengths."""

    characters: str  # a code is a position in this string; code 0 is padding and start symbol
    question_length: int  # characters, padding included
    answer_length: int  # characters, padding included


class TextLabels(NamedTuple):
    """Texts in codes (batch, time), and the label of each (batch, 1)."""

    sequence: Array
    label: Array


@attrs.frozen
class TextToLabel:
    """Sizes of a sequence classification task: a text of any length has one label."""

    characters: str  # a code is a position in this string
    labels: tuple[str, ...]  # a label is a position in this tuple


class SeriesNumbers(NamedTuple):
    """Series of numbers (batch, time, channels), float32, and the target of each (batch, 1)."""

    series: Array
    number: Array


@attrs.frozen
class SeriesToNumber:
    """Sizes of a sequence regression task: a series of any length has one number as its target."""

    num_channels: int  # numbers at each time step


class ImageLabels(NamedTuple):
    """Images (batch, channels, height, width), float32 in [0, 1], and labels (batch, 1)."""

    image: Array
    label: Array


@attrs.frozen
class ImageToLabel:
    """Sizes of an image classification task."""

    num_channels: int
    height: int  # pixels
    width: int  # pixels
    labels: tuple[str, ...]  # a label is a position in this tuple
    # Whether images are scans of handwriting, in which 1 is ink; not a size, so not compared.
    is_handwriting: bool = attrs.field(default=False, eq=False, repr=False)


class SetTargets(NamedTuple):
    """Sets of objects (batch, n, features), float32, padded with 0, and the target of each set.

    The target (batch, 1) is the code of a label, or a number, float32. The number n of places may
    differ from batch to batch.
    """

    objects: Array
    target: Array
    mask: Array  # (batch, n) bool: at which places there is an object
    edges: Array = None  # of graphs: weights (batch, n, n), float32, 0 for no edge; of sets: None


@attrs.frozen
class SetToTarget:
    """Sizes of a task in which a set of objects, or a graph, has one label or one number."""

    num_features: int  # numbers of each object
    labels: tuple[str, ...] | None  # a label is a position in this tuple; None: a number
    sort_by: int = 0  # the feature by which objects can be put in order
    has_edges: bool = False
    # The largest numbers in training, by which inputs and numbers to be answered are scaled.
    scales: tuple[int, ...] = attrs.field(kw_only=True, default=())
    # Objects of the largest set, in any split; sets may have fewer, so it is not compared.
    size: int = attrs.field(kw_only=True, eq=False)


class TextChunks(NamedTuple):
    """Language-model batch: chunks of long texts in codes (batch, time), and the next codes.

    Row i of a batch continues row i of the batch before, unless its `reset_state` is True: then it
    is the beginning of a text.
    """

    text: Array
    targets: Array  # the code after each place (batch, time)
    reset_state: Array  # (batch,) bool


@attrs.frozen
class LanguageModelSpec:
    """Sizes of a character-level language-modelling task."""

    characters: str  # a code is a position in this string
    block_size: int  # characters of one training sample


class BatchRequest(NamedTuple):
    """Arguments of `Task.iter_batches`: one pass over a split, from a batch on."""

    split: Split
    batch_size: int
    seed: int
    epoch: int
    start: int
    stage: int | None

    def slices(self, num_samples: int) -> Iterator[slice]:
        """Yield the slice of each batch in a pass over `num_samples`; the last may be short."""
        size = self.batch_size
        for first in range(self.start * size, num_samples, size):
            yield slice(first, min(first + size, num_samples))


class Row(NamedTuple):
    """Readable row of an answer table: question, answer and target as text."""

    question: str
    answer: str
    target: str
    correct: bool
    short_question: str = ""  # an abbreviation of a long question


class ProbeTargets(NamedTuple):
    """Probe targets by name: properties of a batch at every step, for probes of hidden states.

    Each is an array (batch, time), or (batch,) for what is constant over time. Integers are
    categories (negative: undefined), floats are numbers (NaN: undefined).
    """

    encoder: Mapping[str, NDArray[Any]]  # time is the step of reading the question
    decoder: Mapping[str, NDArray[Any]]  # time is the step of writing the answer
    position_keys: tuple[str, str] = ("", "")  # in each, the name of the position


@attrs.frozen(kw_only=True)
class Task(abc.ABC):
    """Base class of tasks: data and scores. Subclasses are frozen attrs classes of settings.

    A batch is a NamedTuple of arrays whose first axis is the sample.
    """

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Accept a task class that defines members by their earlier names."""
        super().__init_subclass__(**arguments)
        earlier_names.adopt_members(cls)

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
        """Name of the score by which agents are compared, and whether more or less is better."""

    @property
    def num_stages(self) -> int:
        """Number of curriculum stages of the training data, from easy to the full task; 1: none."""
        return 1

    @property
    def reads_files(self) -> bool:
        """Whether samples are read from files as they are needed, by `tasks.core.workers`."""
        return False

    def for_display(self) -> "Task":
        """Return a task whose questions are short enough to display: itself, or a shorter one."""
        return self

    @abc.abstractmethod
    def num_samples_in(self, split: Split) -> int:
        """Return the number of samples in one pass over a split (for `train`: an epoch)."""

    @abc.abstractmethod
    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
        """Yield the batches of one pass: a pure function of the request."""

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

        So three integers are the cursor of a run: `epoch`, `start` and `stage`, which counts from 0
        for the easiest stage; None: the full task.
        """
        return self.iter_batches(BatchRequest(split, batch_size, seed, epoch, start, stage))

    def samples(self, split: Split, num: int, seed: int = 0) -> Any:
        """Return one batch of at most `num` samples of a split; another seed, other samples.

        The first batch of a pass, unless a task has another way.
        """
        return next(self.batches(split, num, seed, 0))

    def encode(self, x: Sequence[Any]) -> Any:
        """Encode inputs, such as questions, paths of images or arrays, as a batch.

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
        """Return the scores of answers to a batch."""

    def targets(self, batch: Any) -> Any:
        """Return the right predictions of a batch, in the form of an agent's predictions.

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

    def probe_targets(self, batch: Any) -> ProbeTargets:
        """Return the probe targets of a batch; empty, unless a task says more."""
        return ProbeTargets({}, {})


def num_batches(task: Task, batch_size: int) -> int:
    """Return the number of training batches in one epoch (the last one may be short)."""
    return -(-task.num_samples_in("train") // batch_size)


def doubling_lengths(first: int, last: int) -> tuple[int, ...]:
    """Return lengths of curriculum stages: from the first, each twice the one before, to the last.

    >>> doubling_lengths(10, 50)
    (10, 20, 40, 50)
    """
    lengths = [min(first, last)]
    while lengths[-1] < last:
        lengths.append(min(2 * lengths[-1], last))
    return tuple(lengths)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
    for _class in (Task, Row, ProbeTargets, TextChunks, LanguageModelSpec):
        _class.__getattr__ = earlier_names.member
