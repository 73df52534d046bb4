"""MNIST-like image classification: handwritten digits and letters, and small pictures of clothes.

`digits` are the 1,797 scans of 8×8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998,
Optical Recognition of Handwritten Digits, UCI). `mnist` (LeCun et al. 1998), `fashion_mnist`
(1708.07747) and `emnist` (1702.05373) are read from idx files whose paths are given.

The last scans of a file are the test split, those before them the validation split, and the rest is
for training. Only the scans of `digits` are shuffled first, in a fixed order, because there the
scans of a writer are adjacent; so every split has all writers. No two of the 1,797 are equal.

A scan has a name, such as `test/17` for scan 17 of the test split, counted from 0:

>>> from tasks.digits import MnistLike
>>> task = MnistLike()
>>> batch = task.encode(["test/17"])
>>> batch.image.shape  # (batch, channels, height, width)
(1, 1, 8, 8)
>>> for row in batch.image[0, 0]:  # 0 is paper and 1 the most ink; here in sixteenths
...     print(" ".join(f"{int(pixel * 16):2}" for pixel in row))
 0  0  6 16 11  0  0  0
 0  0  9 16 16  5  0  0
 0  0  8 16 16  4  0  0
 0  0 10 16 13  0  0  0
 0  0 13 16 12  0  0  0
 0  0 10 16  9  0  0  0
 0  0  9 16 10  0  0  0
 0  0  4 15 16  3  0  0
>>> task.decode(batch.label)
['1']
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core import earlier_names
from tasks.core.idx import read_idx, read_idx_header
from tasks.core.images import read_grey
from tasks.core.labelled import Augmentation, ImageTerms, LabelledImages, NamedImages
from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import ImageToLabel, Split
from tasks.digits_labels import EMNIST_CLASSES, first_code, own_labels

_BUNDLED_SHAPE = (1797, 8, 8)  # scans, rows, columns
_BUNDLED_INK = 16  # value of a pixel that is all ink; in idx files 255
_DEFAULT_WITHHELD = {
    "num_test": (5, 1000),
    "num_validation": (10, 500),
}  # one scan in …, and at most …
_ACCEPTED = (
    "a scan's name, such as test/0, or the path of an image, such as a PNG, of dark ink on light "
    "paper or light ink on dark"
)
_FILES = ("images", "labels", "test_images", "test_labels")


@attrs.frozen(kw_only=True)
class MnistLike(LabelledImages):
    """MNIST-like image classification with grey images of fixed size.

    An image file is read as grey and resized to the task's height and width by averaging over
    areas. Its ink may be dark on light paper or light on dark: the paper is the median of the
    border. The ink must be positioned in the image as in the scans.
    """

    terms: ClassVar[ImageTerms] = ImageTerms("a scan", "scans", ("paper", "ink"), "ink", _ACCEPTED)

    source: Literal["digits", "mnist", "fashion_mnist", "emnist"] = setting(
        "digits",
        "data set; emnist: its files have rows and columns exchanged, which is undone",
    )
    images: str | None = setting(
        None, "path of the idx file of scans, such as train-images-idx3-ubyte.gz; not for digits"
    )
    labels: str | None = setting(
        None, "path of the idx file of labels of the scans, such as train-labels-idx1-ubyte.gz"
    )
    test_images: str | None = setting(
        None, "path of the idx file of test scans; null: the last scans of images"
    )
    test_labels: str | None = setting(None, "path of the idx file of labels of the test scans")
    classes: str | None = setting(
        None,
        "label characters in the order of their codes; null: those of the source, for emnist "
        "of the set (digits, letters, balanced, …) in the name of the file of labels",
    )
    height: int | None = setting(None, "height of a scan in pixels; null: that of the file", ge=1)
    width: int | None = setting(None, "width of a scan in pixels; null: that of the file", ge=1)
    num_test: int | None = setting(
        None, "number of last scans, withheld for the test; null: a fifth, at most 1,000", ge=1
    )
    num_validation: int | None = setting(
        None,
        "number of scans before the test, withheld for validation; null: a tenth, at most 500",
        ge=1,
    )
    shift: int = setting(
        0, "augmentation: largest translation of a training scan, in pixels", ge=0, le=7
    )

    def __attrs_post_init__(self) -> None:
        """Check that settings fit together; store what a file says, for checkpoints."""
        place = f"task {self.name}"
        for field in (*_FILES, "classes", "height", "width"):
            if self.source == "digits" and getattr(self, field) is not None:
                problem = (
                    f"{getattr(self, field)!r} cannot be combined with digits, which are bundled"
                )
                raise ConfigError(place, field, problem, "null, or the task mnist")
        if (self.test_images is None) != (self.test_labels is None):
            missing = "test_images" if self.test_images is None else "test_labels"
            raise ConfigError(
                place, missing, "null cannot be combined with a path of the other", "both, or none"
            )
        if self.test_images is not None and self.num_test is not None:
            problem = (
                f"{self.num_test} cannot be combined with test_images, which are all for the test"
            )
            raise ConfigError(place, "num_test", problem, "null")
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            problem = f"{self.classes!r} has a character twice, or fewer than two"
            raise ConfigError(place, "classes", problem, "two different characters or more")
        if self.source == "digits":
            _ranges(self)
        elif self.images is not None:
            self._store_file_properties()

    def _store_file_properties(self) -> None:
        properties: dict[str, object] = {}
        if self.height is None or self.width is None:
            properties = dict(zip(("height", "width"), _sizes(self)[1:], strict=True))
        if self.source == "emnist" and self.labels is not None:
            properties["classes"] = "".join(_labels(self))
        for field, value in properties.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)

    @property
    def name(self) -> str:
        """The registered name."""
        return self.source

    @property
    def spec(self) -> ImageToLabel:
        """Size of an image, and labels."""
        if self.source == "digits":
            return ImageToLabel(1, *_BUNDLED_SHAPE[1:], _labels(self), is_handwriting=True)
        if self.height is None or self.width is None:
            _path(self, "images")
        assert self.height is not None
        assert self.width is not None
        is_handwriting = self.source != "fashion_mnist"
        return ImageToLabel(
            1, self.height, self.width, _labels(self), is_handwriting=is_handwriting
        )

    @property
    def ranges(self) -> Mapping[Split, range]:
        """Numbers of the scans in each split, counted over all files."""
        return _ranges(self)

    @property
    def augmentation(self) -> Augmentation:
        """Random translation of training scans."""
        return Augmentation(self.shift)

    def load(self, number: NDArray[np.int64]) -> NamedImages:
        """Load the scans of these numbers."""
        image, label, ink = _data(self)
        scaled = image[number, None] / np.float32(ink)
        return NamedImages(scaled, label[number, None], number)

    def name_of(self, number: int) -> str:
        """Return the name of a scan, such as `test/17`."""
        return self.name_in_split(number)

    def number_of(self, name: str) -> None:
        """Return None: scans have no other names."""

    def read(self, path: Path, place: str) -> NDArray[np.float32]:
        """Read an image file as a scan (1, H, W); see the class."""
        spec = self.spec
        return read_grey(path, spec.height, spec.width, place, _ACCEPTED)[None]


def _path(task: MnistLike, field: str) -> Path:
    """Return the path in a setting; null is a ConfigError that says which file is required."""
    path = getattr(task, field)
    if path is None:
        kind = "idx3" if field.endswith("images") else "idx1"
        problem = f"is required: {task.name} is read from files"
        accepted = f"a path, such as train-{field}-{kind}-ubyte.gz; plain or compressed with gzip"
        raise ConfigError(f"task {task.name}", field, problem, accepted)
    return expand_user(path)


def _labels(task: MnistLike) -> tuple[str, ...]:
    if task.classes is not None:
        return tuple(task.classes)
    own = own_labels(task.source, _path(task, "labels").name if task.source == "emnist" else "")
    if own is None:
        problem = f"not given, and {task.labels} names none of {', '.join(EMNIST_CLASSES)}"
        accepted = "the label characters in the order of their codes, such as 0123456789"
        raise ConfigError("task emnist", "classes", problem, accepted)
    return own


@functools.lru_cache(maxsize=32)
def _sizes(task: MnistLike, field: str = "images") -> tuple[int, int, int]:
    """Return number, height and width of the scans in a file, from its header."""
    if task.source == "digits":
        return _BUNDLED_SHAPE
    path = _path(task, field)
    header = read_idx_header(path)
    if header.dtype != ">u1" or len(header.shape) != 3 or not min(header.shape):
        problem = f"holds {header.dtype} of the shape {header.shape}"
        raise ConfigError(str(path), "", problem, "bytes (scans, height, width)")
    num, height, width = header.shape
    return (num, width, height) if task.source == "emnist" else (num, height, width)


@functools.lru_cache(maxsize=32)
def _ranges(task: MnistLike) -> Mapping[Split, range]:
    """Return the numbers of the scans in each split, counted over all files."""
    num = _sizes(task)[0]
    withheld = {
        field: min(max(num // part, 1), most) for field, (part, most) in _DEFAULT_WITHHELD.items()
    }
    specified = {field: getattr(task, field) for field in _DEFAULT_WITHHELD}
    withheld |= {field: value for field, value in specified.items() if value is not None}
    has_test_file = task.test_images is not None
    test_start = num if has_test_file else num - withheld["num_test"]
    num_train = test_start - withheld["num_validation"]
    if num_train < 1:
        field = next((field for field, value in specified.items() if value), "images")
        problem = f"of {num} scans none is left for training"
        raise ConfigError(f"task {task.name}", field, problem, "fewer withheld ones")
    end = num + _sizes(task, "test_images")[0] if has_test_file else num
    return {
        "train": range(num_train),
        "validation": range(num_train, test_start),
        "test": range(test_start, end),
    }


@functools.lru_cache(maxsize=4)
def _data(task: MnistLike) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Return all images (N, H, W), their labels (N,), and the value of a pixel that is all ink.

    Images are bytes: as float32, the largest set would need gigabytes. A file is read once.
    """
    if task.source == "digits":
        from sklearn.datasets import load_digits  # takes a second, and is not used elsewhere

        scans = load_digits()
        order = np.random.default_rng(0).permutation(len(scans.images))
        labels = scans.target.astype(np.int64)
        return scans.images.astype(np.uint8)[order], labels[order], _BUNDLED_INK
    images, labels = _read_pair(task, "images", "labels")
    size = (task.height, task.width)
    if images.shape[1:] != size:
        problem = f"its scans are {images.shape[1:]}"
        raise ConfigError(str(task.images), "", problem, f"{size}, as the task was made with")
    files = {"labels": labels}
    if task.test_images is not None:
        more, files["test_labels"] = _read_pair(task, "test_images", "test_labels")
        if more.shape[1:] != size:
            problem = f"its scans are {more.shape[1:]}, and those of images {size}"
            raise ConfigError(task.test_images, "", problem, "scans of one size")
        images = np.concatenate([images, more])
    codes = np.concatenate([*files.values()])
    first = first_code(task.source, _path(task, "labels").name, _labels(task), codes)
    for field, field_codes in files.items():
        _check_codes(task, field, field_codes - first)
    return images, codes - first, 255


def _read_pair(task: MnistLike, *fields: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images in upright orientation, and the codes of their labels."""
    paths = [_path(task, field) for field in fields]
    _sizes(task, fields[0])
    images, codes = map(read_idx, paths)
    if codes.dtype.kind not in "iu" or codes.shape != images.shape[:1]:
        problem = f"holds {codes.dtype} of the shape {codes.shape}"
        accepted = f"whole numbers, one for each of the {len(images)} scans of {paths[0]}"
        raise ConfigError(str(paths[1]), "", problem, accepted)
    upright = images.swapaxes(1, 2) if task.source == "emnist" else images
    return upright, codes.astype(np.int64)


def _check_codes(task: MnistLike, field: str, codes: NDArray[np.int64]) -> None:
    """Check that there is a label for every code."""
    labels = _labels(task)
    low, high = codes.min(), codes.max()
    if low < 0 or high >= len(labels):
        problem = f"holds codes from {low} to {high}"
        accepted = f"0 to {len(labels) - 1}, for the labels {' '.join(labels)}; see classes"
        raise ConfigError(str(_path(task, field)), "", problem, accepted)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
