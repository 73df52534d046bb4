"""Base class of image classification tasks; subclasses supply the images."""

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast, final

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core import earlier_names
from tasks.core.images import check_image, shift_images
from tasks.core.paths import expand_user, is_file
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, BatchRequest, ImageToLabel, ProbeTargets, Row, Split, Task

_EXTERNAL = -1  # number and label of an image that is not one of the task's
_MAX_SHOWN = 100  # characters of an input that an error message repeats
_NAME = re.compile(f"({'|'.join(SPLITS)})/([0-9]{{1,9}})")


class NamedImages(NamedTuple):
    """Images with labels and numbers: `ImageLabels`, and the index of each image in the task.

    image (batch, channels, height, width), float32 in [0, 1]; label (batch, 1); number (batch,),
    counted over all splits. An image that is not one of the task's has label and number -1.
    """

    image: NDArray[Any]
    label: NDArray[Any]
    number: NDArray[Any]


class Augmentation(NamedTuple):
    """Data augmentation of training images, random each time."""

    shift: int  # largest translation in pixels, vertically and horizontally
    flip: bool = False  # whether an image is mirrored with probability 1/2


class ImageTerms(NamedTuple):
    """Words for the images of a task, in errors and names of probe targets."""

    one: str  # such as `a scan`
    many: str
    ends: tuple[str, str]  # the meaning of 0 and 1 in a pixel
    sum: str  # the name of the sum of pixels, such as `ink`
    accepted: str  # the inputs that are accepted


@attrs.frozen(kw_only=True)
class LabelledImages(Task):
    """Image classification with images of fixed size, which are numbered over all splits."""

    terms: ClassVar[ImageTerms]

    @property
    @abc.abstractmethod
    def spec(self) -> ImageToLabel:
        """Size of an image, and labels."""

    @property
    @abc.abstractmethod
    def ranges(self) -> Mapping[Split, range]:
        """Numbers of the images in each split."""

    @property
    @abc.abstractmethod
    def augmentation(self) -> Augmentation:
        """Data augmentation of training images."""

    @abc.abstractmethod
    def load(self, number: NDArray[np.int64]) -> NamedImages:
        """Load the images of these numbers."""

    def load_ahead(self, numbers: Iterator[NDArray[np.int64]]) -> Iterator[NamedImages]:
        """Load images for each array of numbers; a task that reads files begins with the next."""
        return map(self.load, numbers)

    @abc.abstractmethod
    def name_of(self, number: int) -> str:
        """Return the name of an image in answer tables; `encode` accepts it."""

    @abc.abstractmethod
    def number_of(self, name: str) -> int | None:
        """Return the number of an image by a name other than `test/17`; None: unknown name."""

    @abc.abstractmethod
    def read(self, path: Path, place: str) -> NDArray[np.float32]:
        """Read an image file (C, H, W); a file that is not an image is a ConfigError."""

    @final
    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Accuracy."""
        return "accuracy", "max"

    @final
    def num_samples_in(self, split: Split) -> int:
        """Return the number of images in a split."""
        return len(self.ranges[split])

    @final
    def iter_batches(self, request: BatchRequest) -> Iterator[NamedImages]:
        """Yield the batches of one epoch; see `Task.batches`. Training images are augmented."""
        within = self.ranges[request.split]
        rng = np.random.default_rng([request.seed, request.epoch, *map(ord, request.split)])
        order = rng.permutation(len(within))
        order = order.astype(np.min_scalar_type(len(within)))  # of a million, half the memory
        max_shift, flip = self.augmentation if request.split == "train" else Augmentation(0)
        moves = is_mirrored = None
        if max_shift:
            moves = rng.integers(-max_shift, max_shift + 1, (len(within), 2)).astype(np.int32)
        if flip:
            is_mirrored = rng.random(len(within)) < 0.5
        parts = request.slices(len(order))
        numbers = (within.start + order[part].astype(np.int64) for part in parts)
        loaded = zip(request.slices(len(order)), self.load_ahead(numbers), strict=True)
        for part, batch in loaded:
            image = batch.image
            if is_mirrored is not None:
                image = np.where(is_mirrored[part, None, None, None], image[..., ::-1], image)
            if moves is not None:
                image = shift_images(image, moves[part])
            yield batch._replace(image=image)

    @final
    def samples(self, split: Split, num: int, seed: int = 0) -> NamedImages:
        """Return `num` images of a split, or all if it has fewer, in random order."""
        within = self.ranges[split]
        rng = np.random.default_rng([seed, *map(ord, split)])
        return self.load(within.start + rng.permutation(len(within))[:num])

    @final
    def encode(self, x: Sequence[Any]) -> NamedImages:
        """Return images by name, image files by path, and arrays as a batch.

        A name is such as `test/17`, or the name of an image in `rows`. An array is (channels,
        height, width), or (height, width) if there is one channel, with values from 0 to 1. An
        image that is not one of the task's has the label -1.

        Raises:
            ConfigError: names the text or the shape, and what is accepted.
        """
        return NamedImages(*map(np.concatenate, zip(*map(self._encode_one, x), strict=True)))

    @final
    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as names of labels; `?` of an external image."""
        names = (*self.spec.labels, "?")
        return [names[int(label)] for label in answers[:, 0]]

    @final
    def score(self, answers: NDArray[Any], targets: NamedImages) -> dict[str, float]:
        """Return `accuracy`, the share of images with the right label."""
        return {"accuracy": float((answers == targets.label).mean())}

    @final
    def rows(self, answers: NDArray[Any], targets: NamedImages) -> list[Row]:
        """Return name, predicted label and right label of each image."""
        predicted, right = self.decode(answers), self.decode(targets.label)
        names = [
            "an image" if number == _EXTERNAL else self.name_of(number)  # the first needs no file
            for number in targets.number.tolist()
        ]
        return [Row(n, a, b, a == b) for n, a, b in zip(names, predicted, right, strict=True)]

    @final
    def probe_targets(self, batch: NamedImages) -> ProbeTargets:
        """Return probe targets for an image that is read row by row, from the top.

        The index of the `row`, the sum of its pixels (of a pixel that is all ink, or white, 1),
        the sum over the rows so far, and at every step the `label`.
        """
        total = batch.image.astype(np.float64).sum(axis=(1, 3))
        encoder = {
            "row": np.broadcast_to(np.arange(total.shape[1], dtype=np.float64), total.shape),
            self.terms.sum: total,
            f"{self.terms.sum} so far": total.cumsum(axis=1),
            "label": batch.label[:, 0],
        }
        return ProbeTargets(encoder, {}, position_keys=("row", ""))

    @final
    def name_in_split(self, number: int) -> str:
        """Return the name of an image by split and index in the split, such as `test/17`."""
        for split, within in self.ranges.items():
            if number in within:
                return f"{split}/{number - within.start}"
        raise AssertionError(f"no split has an image {number}")

    def _encode_one(self, x: Any) -> NamedImages:
        x = str(x) if isinstance(x, Path) else x
        number = self._number(x.strip()) if isinstance(x, str) else None
        if number is not None:
            return self.load(np.array([number]))
        external = np.array([_EXTERNAL])
        return NamedImages(self._external_image(x)[None], external[:, None], external)

    def _number(self, name: str) -> int | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return self.number_of(name)
        split, at = match[1], int(match[2])
        within = self.ranges[cast("Split", split)]
        if at >= len(within):
            problem = f"{split} has {len(within)} {self.terms.many}"
            accepted = f"{split}/0 to {split}/{len(within) - 1}"
            raise ConfigError(f"input {name!r}", "", problem, accepted)
        return within.start + at

    def _external_image(self, x: Any) -> NDArray[np.float32]:
        spec, terms = self.spec, self.terms
        if not isinstance(x, str):
            return check_image(x, (spec.num_channels, spec.height, spec.width), terms.ends)
        place, path = (
            f"input {x[:_MAX_SHOWN]!r}{'…' if len(x) > _MAX_SHOWN else ''}",
            expand_user(x.strip()),
        )
        if not is_file(path):
            raise ConfigError(
                place, "", f"is neither the name of {terms.one} nor a file", terms.accepted
            )
        return self.read(path, place)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
