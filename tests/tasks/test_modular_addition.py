"""Modular addition: right labels, and splits that share all pairs out."""

import numpy as np
import pytest

import tasks
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, TextLabels
from tasks.modular_addition import ModularAddition

TASK = ModularAddition(modulus=11, train_fraction=0.3)


def test_labels_are_sums() -> None:
    """Each batch has a, b and the code of =, and the remainder of their sum."""
    (batch,) = TASK.batches("train", 1000, 0, 0)
    assert isinstance(batch, TextLabels)
    for (a, b, equals), (label,) in zip(batch.sequence, batch.label, strict=True):
        assert (a + b) % 11 == label
        assert equals == 11


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_splits_share_all_pairs_out(fraction: float) -> None:
    """Every pair is in one split; of what is not for training half is validation."""
    task = ModularAddition(modulus=11, train_fraction=fraction)
    parts = [task.pairs(split) for split in SPLITS]
    assert sorted(np.concatenate(parts)) == list(range(121))
    assert len(parts[0]) == round(fraction * 121)
    assert 0 <= len(parts[2]) - len(parts[1]) <= 1


def test_an_epoch_shows_each_training_pair_once() -> None:
    """In batches of any size an epoch has all pairs of the split, in its own order."""
    batches = list(TASK.batches("train", 10, 0, 3))
    sequence = np.concatenate([batch.sequence for batch in batches])
    assert sorted(sequence[:, 0] * 11 + sequence[:, 1]) == sorted(TASK.pairs("train"))
    assert [len(batch.label) for batch in batches] == [10, 10, 10, 6]


def test_the_split_follows_its_seed_alone() -> None:
    """The order of training does not change what is withheld; another data seed does."""
    again, other = (ModularAddition(modulus=11, data_seed=seed) for seed in (0, 1))
    assert np.array_equal(again.pairs("test"), TASK.pairs("test"))
    assert not np.array_equal(np.sort(other.pairs("test")), np.sort(TASK.pairs("test")))


def test_the_name_determines_the_modulus() -> None:
    """`modadd59` is addition modulo 59, and is not taken for `mod<modulus>` of parity."""
    task = tasks.make("modadd59", train_fraction=0.4)
    assert isinstance(task, ModularAddition)
    assert (task.modulus, task.name, task.spec.modulus) == (59, "modadd59", 59)


@pytest.mark.parametrize("text", ["11+2", "3", "3-2", "1+2+3", "a+b", 7])
def test_what_is_no_sum_is_refused(text: str) -> None:
    """A number that is too large, or anything but two numbers, is an error with an example."""
    with pytest.raises(ConfigError, match=r"not a sum of two numbers.*such as 8\+7"):
        TASK.encode([text])


def test_an_even_modulus_is_refused() -> None:
    """Of an even modulus it says what is accepted."""
    with pytest.raises(ConfigError, match="12 is even; accepted: an odd number"):
        tasks.make("modadd12")
