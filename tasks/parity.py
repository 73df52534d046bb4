"""Is the number of ones odd? A sequence of bits is read, and one label answers at its end.

With `modulus` 3 and more, the count of ones modulo that number is asked. Nothing short of counting
every one helps, so a network either finds the machine or stays at chance. Training sequences come
in stages of growing length, because at full length there is nothing to follow at first.

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
    BatchRequest,
    ProbeTargets,
    Row,
    Split,
    Task,
    TextLabels,
    TextToLabel,
    doubling_lengths,
)

FRESH_EPOCH = 50_000  # samples that count as one epoch: all are fresh
_VIEWED = 20  # bits
_WITHHELD_FROM = 10  # bits: shorter sequences are too few to keep some back
_TENTHS = {"test": (0, 1), "validation": (1, 2), "train": (2, 10)}  # of all sequences
_PRIMES = np.array([7919, 104_729, 1_299_709, 15_485_863, 179_424_673], np.int64)


@attrs.frozen(kw_only=True)
class Parity(Task):
    """Count the ones of a bit string modulo a number. Two bits make it XOR, `xor2`.

    Strings of fewer than 10 bits are too few for any to be withheld: splits share them.
    """

    length: int = setting(1000, "bits of a validation or test sequence", ge=2, le=100_000)
    train_length: int = setting(128, "bits of the longest training sequence", ge=2, le=100_000)
    modulus: int = setting(2, "the ones are counted modulo this", ge=2, le=9)
    data_seed: int = setting(0, "chooses the sequences", ge=0)

    @property
    def name(self) -> str:
        """The registered name."""
        if self.modulus > 2:
            return f"mod{self.modulus}"
        return "xor2" if self.length == self.train_length == 2 else "parity"

    @property
    def labels(self) -> tuple[str, ...]:
        """What is answered: even or odd, or the remainder."""
        return ("even", "odd") if self.modulus == 2 else tuple(map(str, range(self.modulus)))

    @property
    def spec(self) -> TextToLabel:
        """Two characters, and as many labels as remainders."""
        return TextToLabel("01", self.labels)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The share of sequences that are answered right."""
        return "accuracy", "max"

    @property
    def lengths(self) -> tuple[int, ...]:
        """The longest sequence of each stage: from 1, doubled, to `train_length`."""
        return doubling_lengths(1, self.train_length)

    @property
    def num_stages(self) -> int:
        """One for each length."""
        return len(self.lengths)

    def for_display(self) -> "Parity":
        """Sequences of at most 20 bits: what a person can look at."""
        return attrs.evolve(self, length=min(self.length, _VIEWED))

    def num_samples_in(self, split: Split) -> int:
        """Return the samples of one pass; all are fresh."""
        return FRESH_EPOCH

    def iter_batches(self, request: BatchRequest) -> Iterator[TextLabels]:
        """Yield the batches of one epoch; see `Task.batches`.

        A training batch is of one length, longer than those of the stage before.
        """
        split = request.split
        at = self.num_stages - 1 if request.stage is None else request.stage
        longest, shortest = self.lengths[at], self.lengths[at - 1] + 1 if at else 1
        of_pass = (self.data_seed, request.seed, request.epoch)
        for part in request.slices(FRESH_EPOCH):
            num = part.stop - part.start
            rng = np.random.default_rng([*of_pass, part.start, at, *map(ord, split)])
            trained = int(rng.integers(shortest, longest + 1))
            length = trained if split == "train" else self.length
            yield self._labelled(_draw(split, num, length, rng))

    def samples(self, split: Split, num: int, seed: int = 0) -> TextLabels:
        """Return `num` sequences of a split, of `length` bits (training: of `train_length`)."""
        length = self.train_length if split == "train" else self.length
        rng = np.random.default_rng([self.data_seed, seed, *map(ord, split)])
        return self._labelled(_draw(split, num, length, rng))

    def encode(self, x: Sequence[str]) -> TextLabels:
        """Return typed bits such as `["0110"]` as a batch that has their right labels."""
        for text in x:
            if not isinstance(text, str) or not re.fullmatch("[01]+", text.strip()):
                raise ConfigError(f"input {text!r}", "", "is not a bit string", "text of 0 and 1")
        longest = max(len(text.strip()) for text in x)
        rows = [[int(bit) for bit in text.strip().rjust(longest, "0")] for text in x]
        return self._labelled(np.array(rows, np.uint8))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as words."""
        return [self.labels[int(label)] for label in answers[:, 0]]

    def score(self, answers: NDArray[Any], targets: TextLabels) -> dict[str, float]:
        """Return `accuracy`, the share of sequences that are answered right."""
        return {"accuracy": float((answers == targets.label).mean())}

    def rows(self, answers: NDArray[Any], targets: TextLabels) -> list[Row]:
        """Return each sequence, the answer given and the right one."""
        texts = ("".join(map(str, bits)) for bits in targets.sequence)
        given, right = self.decode(answers), self.decode(targets.label)
        return [Row(t, a, b, a == b) for t, a, b in zip(texts, given, right, strict=True)]

    def probe_targets(self, batch: TextLabels) -> ProbeTargets:
        """Return, while reading, the bit, the ones so far, and their number modulo `modulus`."""
        ones = batch.sequence.astype(np.int64).cumsum(axis=1)
        reading = {
            "bit": batch.sequence.astype(np.int64),
            "remainder": ones % self.modulus,
            "ones so far": ones.astype(np.float64),
            "position": np.broadcast_to(np.arange(ones.shape[1], dtype=np.float64), ones.shape),
        }
        return ProbeTargets(reading, {}, position_keys=("position", ""))

    def _labelled(self, bits: NDArray[np.uint8]) -> TextLabels:
        count = bits.sum(axis=1, keepdims=True, dtype=np.int64)
        return TextLabels(bits, count % self.modulus)


def _draw(split: Split, num: int, length: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return random bits (num, length) of a split; of 10 bits or more, no two splits share any."""
    if length < _WITHHELD_FROM:
        return rng.integers(0, 2, (num, length), np.uint8)
    low, high = _TENTHS[split]
    found = np.empty((0, length), np.uint8)
    while len(found) < num:
        bits = rng.integers(0, 2, (num * 10 // (high - low) + 8, length), np.uint8)
        tenth = _hash(bits) % 10
        found = np.concatenate([found, bits[(low <= tenth) & (tenth < high)]])
    return found[:num]


def _hash(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return a number for each row of bits that depends on all of them."""
    places = np.arange(bits.shape[1])
    mixed = (bits * (_PRIMES[places % 5] * (places + 1))).sum(axis=1) % 2_147_483_647
    return np.asarray((mixed * 48_271) % 2_147_483_647 // 1_000)
