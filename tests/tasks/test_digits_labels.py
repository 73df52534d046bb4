"""Which labels the codes in files of scans stand for: a source's own, a set's, and given ones."""

from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks.core.settings import ConfigError
from tasks.digits_labels import EMNIST_CLASSES
from tests.tasks.test_digits import CODES, SCANS, files


@pytest.mark.parametrize(
    ("name", "codes", "characters"),
    [
        ("emnist-letters-train", [1, 26, 3], "AZC"),
        ("my-emnist-byclass", [10, 61], "Az"),
        ("EMNIST-balanced", [0, 10, 35, 36, 38, 46], "0AZadt"),
        ("emnist-byclass", [9, 10, 36, 61], "9Aaz"),
        ("emnist-mnist", [0, 9], "09"),
    ],
)
def test_emnist_sets_have_their_own_labels(
    tmp_path: Path, name: str, codes: list[int], characters: str
) -> None:
    """The name of the file of labels says which characters its codes stand for."""
    num = 3 * len(codes)
    given = files(tmp_path, SCANS[:num], np.array(codes * 3), name)
    task = tasks.make("emnist", **given, num_test=len(codes))
    batch = task.encode([f"test/{index}" for index in range(len(codes))])
    assert "".join(task.decode(batch.label)) == characters


@pytest.mark.parametrize("gone", ["", "Z", "A", "AZ"])
def test_letters_count_from_one_whichever_occur(tmp_path: Path, gone: str) -> None:
    """A subset of EMNIST's letters has the labels of the whole, also without its first and last."""
    letters = [letter for letter in EMNIST_CLASSES["letters"] if letter not in gone]
    codes = np.array([ord(letter) - ord("A") + 1 for letter in letters] * 2)
    given = files(tmp_path, SCANS[: len(codes)], codes, "emnist-letters")
    task = tasks.make("emnist", **given, num_test=len(letters))
    batch = task.encode([f"test/{index}" for index in range(len(letters))])
    assert task.decode(batch.label) == letters
    counted = files(tmp_path, SCANS[:50], np.arange(50) % 25, "emnist-letters-from-0")
    from_zero = tasks.make("emnist", **counted, num_test=25)
    assert from_zero.decode(from_zero.encode(["test/0", "test/24"]).label) == ["A", "Y"]


def test_codes_are_guessed_for_labels_given_by_hand_alone(tmp_path: Path) -> None:
    """From 1 to their number are the codes of labels by hand; of a source's own they are wrong."""
    given = files(tmp_path, codes=1 + CODES, name="scans")
    task = tasks.make("mnist", **given, classes="abcdefghij")
    assert task.decode(task.encode(["train/0", "train/9"]).label) == ["a", "j"]
    with pytest.raises(ConfigError, match="holds codes from 1 to 10; accepted: 0 to 9"):
        tasks.make("mnist", **given).samples("test", 1)


def test_test_codes_count_from_where_the_others_do(tmp_path: Path) -> None:
    """Where the codes of the file to learn from begin with 1, a test code of 2 is the second."""
    given = files(tmp_path, SCANS[:52], np.tile(np.arange(1, 27), 2), "emnist-letters")
    apart = files(tmp_path, SCANS[:3], np.array([2, 1, 26]), "emnist-letters-test")
    task = tasks.make("emnist", **given, **{f"test_{f}": path for f, path in apart.items()})
    assert task.decode(task.encode(["test/0", "test/1", "test/2"]).label) == ["B", "A", "Z"]


def test_emnist_sets_have_the_sizes_of_the_paper() -> None:
    """Each set has as many classes as Cohen et al. say, all different."""
    sizes = {name: len(set(text)) for name, text in EMNIST_CLASSES.items()}
    assert sizes == {
        "digits": 10, "mnist": 10, "letters": 26, "balanced": 47, "bymerge": 47, "byclass": 62,
    }  # fmt: skip


def test_labels_are_those_of_the_source_or_given_ones(tmp_path: Path) -> None:
    """Clothes have names; `classes` names the codes of any file; EMNIST without a set needs it."""
    given = files(tmp_path, name="scans")
    assert tasks.make("fashion_mnist", **given).spec.labels[9] == "Ankle boot"
    assert tasks.make("mnist", **given, classes="abcdefghij").spec.labels == tuple("abcdefghij")
    with pytest.raises(ConfigError, match=r"task emnist: classes: not given, and .* names none"):
        _ = tasks.make("emnist", **given).spec
    assert len(tasks.make("emnist", **given, classes="abcdefghijk").spec.labels) == 11
    with pytest.raises(ConfigError, match="codes from 0 to 9; accepted: 0 to 2, for the labels a"):
        tasks.make("mnist", **given, classes="abc").samples("test", 1)
    with pytest.raises(ConfigError, match="classes: 'abca' has a character twice"):
        tasks.make("mnist", **given, classes="abca")
