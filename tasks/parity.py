"""Parity of bit strings: is the number of ones odd? A sequence of bits has one label.

With `modulus` 3 and more, the label is the number of ones modulo that number. Every bit counts, so
a network either learns the automaton or stays at chance. A curriculum trains on sequences of
growing length, because at full length there is no gradient to follow at first.

>>> from tasks.parity import Parity
>>> task = Parity(length=10, train_length=10)
>>> batch = task.encode(["0110", "111"])  # shorter texts get zeros in front, which change nothing
>>> batch.sequence.tolist()
[[0, 1, 1, 0], [0, 1, 1, 1]]
>>> task.decode(batch.label)
['even', 'odd']
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError, setting
from tasks.core.task import (
    EPOCH_SAMPLES,
    BatchRequest,
    ProbeTargets,
    Row,
    Split,
    Task,
    TextLabels,
    TextToLabel,
    doubling_lengths,
)

_DISPLAY_LENGTH = 20  # bits
_WITHHELD_FROM = 10  # bits: there are too few shorter sequences to withhold any
_TENTHS = {"test": (0, 1), "validation": (1, 2), "train": (2, 10)}  # tenths of all sequences
_PRIMES = np.array([7919, 104_729, 1_299_709, 15_485_863, 179_424_673], np.int64)


@attrs.frozen(kw_only=True)
class Parity(Task):
    """Parity, or number of ones modulo `modulus`, of a bit string. With two bits: XOR, `xor2`.

    There are too few strings of fewer than 10 bits to withhold any: splits share them.
    """

    length: int = setting(1000, "bits of a validation or test sequence", ge=2, le=100_000)
    train_length: int = setting(128, "bits of the longest training sequences", ge=2, le=100_000)
    modulus: int = setting(2, "the label is the number of ones modulo this", ge=2, le=9)
    data_seed: int = setting(0, "random seed of the sequences", ge=0)

    @property
    def name(self) -> str:
        """The registered name."""
        if self.modulus > 2:
            return f"mod{self.modulus}"
        return "xor2" if self.length == self.train_length == 2 else "parity"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels: even and odd, or the remainders."""
        return ("even", "odd") if self.modulus == 2 else tuple(map(str, range(self.modulus)))

    @property
    def spec(self) -> TextToLabel:
        """Two characters, and as many labels as remainders."""
        return TextToLabel("01", self.labels)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Accuracy."""
        return "accuracy", "max"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Longest sequence of each curriculum stage: from 1, doubled, to `train_length`."""
        return doubling_lengths(1, self.train_length)

    @property
    def num_stages(self) -> int:
        """One for each length."""
        return len(self.lengths)

    def for_display(self) -> "Parity":
        """Return the task with sequences of at most 20 bits, which can be displayed."""
        return attrs.evolve(self, length=min(self.length, _DISPLAY_LENGTH))

    def num_samples_in(self, split: Split) -> int:
        """Return the number of samples per pass; all are new."""
        return EPOCH_SAMPLES

    def iter_batches(self, request: BatchRequest) -> Iterator[TextLabels]:
        """Yield the batches of one epoch; see `Task.batches`.

        All sequences of a training batch have the same length, greater than in the stage before.
        """
        split = request.split
        at = self.num_stages - 1 if request.stage is None else request.stage
        longest, shortest = self.lengths[at], self.lengths[at - 1] + 1 if at else 1
        seeds = (self.data_seed, request.seed, request.epoch)
        for part in request.slices(EPOCH_SAMPLES):
            num = part.stop - part.start
            rng = np.random.default_rng([*seeds, part.start, at, *map(ord, split)])
            train_length = int(rng.integers(shortest, longest + 1))
            length = train_length if split == "train" else self.length
            yield self._with_labels(_random_bits(split, num, length, rng))

    def samples(self, split: Split, num: int, seed: int = 0) -> TextLabels:
        """Return `num` sequences of a split, of `length` bits (training: of `train_length`)."""
        length = self.train_length if split == "train" else self.length
        rng = np.random.default_rng([self.data_seed, seed, *map(ord, split)])
        return self._with_labels(_random_bits(split, num, length, rng))

    def encode(self, x: Sequence[str]) -> TextLabels:
        """Encode bit strings such as `["0110"]` as a batch with their right labels."""
        for text in x:
            if not isinstance(text, str) or not re.fullmatch("[01]+", text.strip()):
                raise ConfigError(f"input {text!r}", "", "is not a bit string", "text of 0 and 1")
        longest = max(len(text.strip()) for text in x)
        rows = [[int(bit) for bit in text.strip().rjust(longest, "0")] for text in x]
        return self._with_labels(np.array(rows, np.uint8))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as names of labels."""
        return [self.labels[int(label)] for label in answers[:, 0]]

    def score(self, answers: NDArray[Any], targets: TextLabels) -> dict[str, float]:
        """Return `accuracy`, the share of sequences with the right label."""
        return {"accuracy": float((answers == targets.label).mean())}

    def rows(self, answers: NDArray[Any], targets: TextLabels) -> list[Row]:
        """Return bits, predicted label and right label of each sequence."""
        texts = ("".join(map(str, bits)) for bits in targets.sequence)
        predicted, right = self.decode(answers), self.decode(targets.label)
        return [Row(t, a, b, a == b) for t, a, b in zip(texts, predicted, right, strict=True)]

    def probe_targets(self, batch: TextLabels) -> ProbeTargets:
        """Return probe targets: bit, ones so far, ones so far modulo `modulus`, position."""
        ones = batch.sequence.astype(np.int64).cumsum(axis=1)
        encoder = {
            "bit": batch.sequence.astype(np.int64),
            "remainder": ones % self.modulus,
            "ones so far": ones.astype(np.float64),
            "position": np.broadcast_to(np.arange(ones.shape[1], dtype=np.float64), ones.shape),
        }
        return ProbeTargets(encoder, {}, position_keys=("position", ""))

    def _with_labels(self, bits: NDArray[np.uint8]) -> TextLabels:
        count = bits.sum(axis=1, keepdims=True, dtype=np.int64)
        return TextLabels(bits, count % self.modulus)


def _random_bits(
    split: Split, num: int, length: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return random bits (num, length) of a split; from 10 bits on, splits are disjoint."""
    if length < _WITHHELD_FROM:
        return rng.integers(0, 2, (num, length), np.uint8)
    low, high = _TENTHS[split]
    sequences = np.empty((0, length), np.uint8)
    while len(sequences) < num:
        bits = rng.integers(0, 2, (num * 10 // (high - low) + 8, length), np.uint8)
        tenth = _hash(bits) % 10
        sequences = np.concatenate([sequences, bits[(low <= tenth) & (tenth < high)]])
    return sequences[:num]


def _hash(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return a hash of each row of bits."""
    places = np.arange(bits.shape[1])
    mixed = (bits * (_PRIMES[places % 5] * (places + 1))).sum(axis=1) % 2_147_483_647
    return np.asarray((mixed * 48_271) % 2_147_483_647 // 1_000)
