"""Modular addition (a + b) mod p, on which networks grok (Power et al. 2022, 2201.02177).

All p² pairs are known beforehand; a share of them is for training and the rest is withheld, so that
a network can learn the training pairs by heart long before it answers the others. A sample has
three tokens, `a b =`, of which `=` has the code p. As in Nanda et al. 2023 (2301.05217, section 3),
`a b` and `b a` are two pairs, of which one may be withheld.

>>> from tasks.modular_addition import ModularAddition
>>> task = ModularAddition(modulus=53)
>>> batch = task.encode(["50+7"])
>>> batch.sequence.tolist(), batch.label.tolist()
([[50, 7, 53]], [[4]])
>>> task.decode(batch.label)
['4']
>>> [task.num_samples_in(split) for split in ("train", "validation", "test")]  # of 2809 pairs
[843, 983, 983]
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError, setting
from tasks.core.task import BatchRequest, Row, Split, Task, TextLabels

NUM_TOKENS = 3  # a, b and =
_QUESTION = r"\s*([0-9]+)\s*\+\s*([0-9]+)\s*"
_LARGEST = 199


@attrs.frozen
class ModularSums:
    """Sizes of modular addition: tokens 0 to modulus - 1 and `=`; a label for each remainder."""

    modulus: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels: the remainders."""
        return tuple(map(str, range(self.modulus)))


@attrs.frozen(kw_only=True)
class ModularAddition(Task):
    """Modular addition of two numbers below an odd modulus: (a + b) mod p."""

    modulus: int = setting(53, "p: numbers are below it, and it is odd", ge=5, le=_LARGEST)
    train_fraction: float = setting(
        0.3, "share of all pairs for training; half of the rest is for validation", ge=0.1, le=0.9
    )
    data_seed: int = setting(0, "random seed of the split of the pairs", ge=0)

    def __attrs_post_init__(self) -> None:
        """Refuse an even modulus, of which one frequency has a cosine and no sine."""
        if self.modulus % 2 == 0:
            raise ConfigError("modadd", "modulus", f"{self.modulus} is even", "an odd number")

    @property
    def name(self) -> str:
        """The registered name."""
        return f"modadd{self.modulus}"

    @property
    def spec(self) -> ModularSums:
        """The modulus."""
        return ModularSums(self.modulus)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Accuracy."""
        return "accuracy", "max"

    def pairs(self, split: Split) -> NDArray[np.int64]:
        """Return the pairs of a split, as a · p + b, in a random order (num_samples,)."""
        parts = _split_pairs(self.modulus, self.train_fraction, self.data_seed)
        return parts[("train", "validation", "test").index(split)]

    def num_samples_in(self, split: Split) -> int:
        """Return the number of pairs in a split."""
        return len(self.pairs(split))

    def iter_batches(self, request: BatchRequest) -> Iterator[TextLabels]:
        """Yield the batches of one epoch: all pairs of the split, in another order each time."""
        pairs = self.pairs(request.split)
        rng = np.random.default_rng([request.seed, request.epoch, *map(ord, request.split)])
        order = rng.permutation(len(pairs))
        for part in request.slices(len(pairs)):
            yield self.batch_of(pairs[order[part]])

    def encode(self, x: Sequence[str]) -> TextLabels:
        """Encode sums such as `["50+7"]` as a batch with their right labels."""
        p, pairs = self.modulus, []
        for text in x:
            match = re.fullmatch(_QUESTION, text) if isinstance(text, str) else None
            numbers = [int(number) for number in match.groups()] if match else []
            if not numbers or max(numbers) >= p:
                accepted = f"text such as {p - 3}+7, of numbers from 0 to {p - 1}"
                raise ConfigError(f"input {text!r}", "", "is not a sum of two numbers", accepted)
            pairs.append(numbers[0] * p + numbers[1])
        return self.batch_of(np.array(pairs, np.int64))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as text."""
        return [str(int(label)) for label in answers[:, 0]]

    def score(self, answers: NDArray[Any], targets: TextLabels) -> dict[str, float]:
        """Return `accuracy`, the share of right remainders."""
        return {"accuracy": float((answers == targets.label).mean())}

    def rows(self, answers: NDArray[Any], targets: TextLabels) -> list[Row]:
        """Return the sum, predicted remainder and right remainder of each sample."""
        questions = (f"{a}+{b}" for a, b, _ in np.asarray(targets.sequence).tolist())
        predicted, right = self.decode(answers), self.decode(targets.label)
        return [Row(q, a, b, a == b) for q, a, b in zip(questions, predicted, right, strict=True)]

    def batch_of(self, pairs: NDArray[np.int64]) -> TextLabels:
        """Return a batch of pairs that are given as a · p + b (batch,)."""
        a, b = np.divmod(pairs, self.modulus)
        sequence = np.stack([a, b, np.full_like(a, self.modulus)], axis=1)
        return TextLabels(sequence, ((a + b) % self.modulus)[:, None])


@functools.lru_cache(maxsize=4)
def _split_pairs(modulus: int, train_fraction: float, seed: int) -> list[NDArray[np.int64]]:
    """Return the pairs of training, validation and test."""
    order = np.random.default_rng([seed, modulus]).permutation(modulus**2)
    num_train = round(train_fraction * len(order))
    num_validation = (len(order) - num_train) // 2
    return np.split(order, [num_train, num_train + num_validation])
