"""Image folder: classification of pictures that are in one folder for each label.

A folder `pets` with the folders `cat` and `dog` has the labels cat and dog. The split of a picture
is determined by a hash of its file: adding, renaming or removing a picture changes no other one,
and equal files are in the same split. Or `pets` has the folders `train`, `validation` and `test`,
which have the folders of the labels. If one of the last two is missing, its split is a share of
`train`. A file that is also in `test` or `validation` is left out of `train`.

A picture has a name, such as `test/17` for picture 17 of the test split, counted from 0, or its
path in the folder:

>>> import tempfile
>>> from pathlib import Path
>>> from PIL import Image
>>> temporary = tempfile.TemporaryDirectory()
>>> for label, column in (("left", 0), ("right", 2)):
...     folder = Path(temporary.name) / label
...     folder.mkdir()
...     for grey in range(60, 256, 5):
...         pixels = np.zeros((2, 3), np.uint8)
...         pixels[:, column] = grey
...         Image.fromarray(pixels).save(folder / f"{grey:03}.png")
>>> task = ImageFolder(path=temporary.name, num_channels=1)
>>> task.spec
ImageToLabel(num_channels=1, height=2, width=3, labels=('left', 'right'))
>>> batch = task.encode(["right/255.png"])
>>> batch.image.tolist()  # (batch, channels, height, width); 0 is black and 1 white
[[[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]]
>>> task.decode(batch.label)
['right']
>>> sum(task.num_samples_in(split) for split in ("train", "validation", "test"))
80
>>> temporary.cleanup()
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.images import read_pixels
from tasks.core.labelled import Augmentation, ImageTerms, LabelledImages, NamedImages
from tasks.core.paths import expand_user, is_file
from tasks.core.settings import ConfigError, setting
from tasks.core.task import ImageToLabel, Split
from tasks.core.workers import read_ahead
from tasks.image_files import (
    FOLDERS,
    LAYOUT,
    PLACE,
    Index,
    build_index,
    common_size,
    image_cache,
    labels_in,
)

_ACCEPTED = (
    "a picture's name, such as test/0 or its path in the folder, or the path of a PNG, JPEG, … file"
)


@attrs.frozen(kw_only=True)
class ImageFolder(LabelledImages):
    """Image folder: classification of pictures, resized to one height and width."""

    terms: ClassVar[ImageTerms] = ImageTerms(
        "a picture", "pictures", ("black", "white"), "light", _ACCEPTED
    )

    path: str | None = setting(
        None,
        "path of a folder with a folder of pictures for each label, or with train, validation and "
        "test",
    )
    classes: str | None = setting(
        None, "names of the folders of labels, in order, separated by /; null: all, sorted"
    )
    height: int | None = setting(
        None, "height of a picture in pixels; null: that of all pictures", ge=1
    )
    width: int | None = setting(
        None, "width of a picture in pixels; null: that of all pictures", ge=1
    )
    num_channels: int = setting(3, "number of colour channels; 1: grey, 3: RGB", ge=1, le=3)
    validation: float = setting(
        0.1,
        "share of pictures withheld for validation, without a folder validation",
        gt=0.0,
        lt=0.5,
    )
    test: float = setting(
        0.2, "share of pictures withheld for the test, without a folder test", gt=0.0, lt=0.5
    )
    cache: str | None = setting(
        None,
        "path of a folder where hashes of the files are kept between runs, by which splits are "
        "assigned; null: each run reads all files once for them",
        mutable_after_training=True,
    )
    cache_memory: float = setting(
        1024.0,
        "megabytes (2^20 bytes) of decoded pictures: they are kept in memory if all fit, otherwise "
        "read each time; 0: never kept",
        ge=0.0,
        mutable_after_training=True,
    )
    shift: int = setting(
        0, "augmentation: largest translation of a training picture, in pixels", ge=0
    )
    flip: bool = setting(False, "augmentation: mirror training pictures with probability 1/2")

    def __attrs_post_init__(self) -> None:
        """Check that settings fit together; store what a folder says, for checkpoints."""
        if self.num_channels == 2:
            raise ConfigError(PLACE, "num_channels", "2 are neither grey nor colours", "1 or 3")
        if (self.height is None) != (self.width is None):
            missing = "height" if self.height is None else "width"
            raise ConfigError(
                PLACE,
                missing,
                "null cannot be combined with a number for the other",
                "both, or none",
            )
        if self.classes is not None:
            _check_names(self.classes)
        if self.path is not None:
            self._store_folder_properties(_root(self.path))
        if self.height is not None and self.width is not None:
            shorter = min(self.height, self.width)
            if self.shift >= shorter:
                problem = (
                    f"{self.shift} moves a picture of {self.height} × {self.width} out of sight"
                )
                raise ConfigError(PLACE, "shift", problem, f"less than {shorter}")

    def _store_folder_properties(self, root: Path) -> None:
        if self.classes is None:
            object.__setattr__(self, "classes", "/".join(labels_in(root)))
        assert self.classes is not None
        if self.height is None:
            height, width = common_size(root, self.classes)
            object.__setattr__(self, "height", height)
            object.__setattr__(self, "width", width)

    @property
    def name(self) -> str:
        """The registered name."""
        return "image_folder"

    @property
    def spec(self) -> ImageToLabel:
        """Size of a picture, and labels."""
        if self.classes is None or self.height is None or self.width is None:
            raise _no_path()
        labels = tuple(self.classes.split("/"))
        return ImageToLabel(self.num_channels, self.height, self.width, labels)

    @property
    def ranges(self) -> Mapping[Split, range]:
        """Numbers of the pictures in each split."""
        return self._index.ranges

    @property
    def augmentation(self) -> Augmentation:
        """Random translation and mirroring of training pictures."""
        return Augmentation(self.shift, self.flip)

    @property
    def reads_files(self) -> bool:
        """Whether pictures are read as they are needed: yes."""
        return True

    def load(self, number: NDArray[np.int64]) -> NamedImages:
        """Load the pictures of these numbers."""
        return self._begin(number)()

    def load_ahead(self, numbers: Iterator[NDArray[np.int64]]) -> Iterator[NamedImages]:
        """Load pictures for each array of numbers, while worker processes read the next ones."""
        return read_ahead(numbers, self._begin)

    def _begin(self, number: NDArray[np.int64]) -> Callable[[], NamedImages]:
        spec, index = self.spec, self._index
        shape = (spec.num_channels, spec.height, spec.width)
        load = image_cache(index, shape, self.cache_memory * 2**20).begin(number)
        return lambda: NamedImages(load() / np.float32(255), index.labels(number)[:, None], number)

    def name_of(self, number: int) -> str:
        """Return the path of a picture in the folder."""
        return self._index.name(number)

    def number_of(self, name: str) -> int | None:
        """Return the number of a picture by its path in the folder."""
        first = name.partition("/")[0]
        if self.path is None or first not in (*FOLDERS, *self.spec.labels):
            return None  # without access to the folder, which may be missing
        return self._index.number_of(name) if is_file(_root(self.path) / name) else None

    def read(self, path: Path, place: str) -> NDArray[np.float32]:
        """Read an image file (C, H, W), resized to the task's height and width."""
        spec = self.spec
        shape = (spec.num_channels, spec.height, spec.width)
        return np.asarray(read_pixels(path, shape, place, _ACCEPTED) / np.float32(255))

    @property
    def _index(self) -> Index:
        if self.path is None:
            raise _no_path()
        assert self.classes is not None
        return build_index(_root(self.path), self.classes, self.test, self.validation, self.cache)


def _root(path: str) -> Path:
    return Path(os.path.abspath(expand_user(path)))  # noqa: PTH100 - pathlib's follows links


def _no_path() -> ConfigError:
    problem = "is required: image_folder is read from files"
    return ConfigError(PLACE, "path", problem, f"the path of {LAYOUT}")


def _check_names(classes: str) -> None:
    names = classes.split("/")
    if "" in names or len(set(names)) < max(2, len(names)):
        problem = f"{classes!r} has a name twice, an empty one, or fewer than two"
        raise ConfigError(PLACE, "classes", problem, "names with / between, such as cat/dog")
