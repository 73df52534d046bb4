"""What tasks share that ask which label an image has; each says where its images are."""

import abc
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast, final

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core import earlier_names
from tasks.core.images import check_image, shift_images
from tasks.core.paths import expand_user, is_file
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, BatchRequest, ImageToLabel, ProbeTargets, Row, Split, Task

_EXTERNAL = -1  # number of an image from outside, and its label
_SHOWN = 100  # characters of an input that an error repeats
_NAME = re.compile(f"({'|'.join(SPLITS)})/([0-9]{{1,9}})")


class NamedImages(NamedTuple):
    """`ImageLabels`, and which image of the task each is.

    image (batch, channels, height, width), float32 in [0, 1]; label (batch, 1); number (batch,),
    counted over all splits. Of an image from outside label and number are -1.
    """

    image: NDArray[Any]
    label: NDArray[Any]
    number: NDArray[Any]


class Augmentation(NamedTuple):
    """What may happen to a training image each time it is seen."""

    shift: int  # pixels by which it is moved at most, up, down and sideways
    flip: bool = False  # whether every other one, by chance, is its mirror image


class ImageTerms(NamedTuple):
    """How a task speaks of its images."""

    one: str  # such as `a scan`
    many: str
    ends: tuple[str, str]  # what 0 and 1 stand for in a pixel
    sum: str  # what the sum of pixels is
    accepted: str  # what a person may name


@attrs.frozen(kw_only=True)
class LabelledImages(Task):
    """Name what an image of fixed size shows. Images have numbers, counted over all splits."""

    terms: ClassVar[ImageTerms]

    @property
    @abc.abstractmethod
    def spec(self) -> ImageToLabel:
        """The sizes of an image and the labels."""

    @property
    @abc.abstractmethod
    def ranges(self) -> Mapping[Split, range]:
        """The numbers of the images of each split."""

    @property
    @abc.abstractmethod
    def augmentation(self) -> Augmentation:
        """What may happen to training images."""

    @abc.abstractmethod
    def load(self, number: NDArray[np.int64]) -> NamedImages:
        """Return the images of these numbers."""

    @abc.abstractmethod
    def name_of(self, number: int) -> str:
        """Return how the image of a number is shown; what it is called is accepted by `encode`."""

    @abc.abstractmethod
    def number_of(self, name: str) -> int | None:
        """Return the number of the image of a name other than `test/17`; None: no such name."""

    @abc.abstractmethod
    def read(self, path: Path, place: str) -> NDArray[np.float32]:
        """Return an image file from outside (C, H, W); one that is none is a ConfigError."""

    @final
    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The share of images that are named right."""
        return "accuracy", "max"

    @final
    @property
    def num_stages(self) -> int:
        """One: there are no easier images."""
        return 1

    @final
    def for_display(self) -> Self:
        """The task itself: an image can be looked at."""
        return self

    @final
    def num_samples_in(self, split: Split) -> int:
        """Return the images of a split."""
        return len(self.ranges[split])

    @final
    def iter_batches(self, request: BatchRequest) -> Iterator[NamedImages]:
        """Yield the batches of one epoch; see `Task.batches`. Training images vary each time."""
        within = self.ranges[request.split]
        rng = np.random.default_rng([request.seed, request.epoch, *map(ord, request.split)])
        order = within.start + rng.permutation(len(within))
        most, flip = self.augmentation if request.split == "train" else Augmentation(0)
        moves = rng.integers(-most, most + 1, (len(within), 2))
        turned = rng.random(len(within)) < (0.5 if flip else 0.0)
        for chosen in request.slices(len(order)):
            found = self.load(order[chosen])
            if flip:
                mirrored = found.image[..., ::-1]
                image = np.where(turned[chosen, None, None, None], mirrored, found.image)
                found = found._replace(image=image)
            yield found._replace(image=shift_images(found.image, moves[chosen])) if most else found

    @final
    def samples(self, split: Split, num: int, seed: int = 0) -> NamedImages:
        """Return `num` images of a split, or all if it has fewer, in an order that `seed` draws."""
        within = self.ranges[split]
        rng = np.random.default_rng([seed, *map(ord, split)])
        return self.load(within.start + rng.permutation(len(within))[:num])

    @final
    def encode(self, x: Sequence[Any]) -> NamedImages:
        """Return images by name, image files by path, and arrays as a batch.

        A name is such as `test/17`, or what `rows` calls an image. An array is (channels, height,
        width), or (height, width) where there is one channel, with values from 0 to 1. The label of
        what is no image of the task is -1.

        Raises:
            ConfigError: names the text or the shape, and what is accepted.
        """
        return NamedImages(*map(np.concatenate, zip(*map(self._encode_one, x), strict=True)))

    @final
    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as names of labels; `?` for the label of an outside image."""
        names = (*self.spec.labels, "?")
        return [names[int(label)] for label in answers[:, 0]]

    @final
    def score(self, answers: NDArray[Any], targets: NamedImages) -> dict[str, float]:
        """Return `accuracy`, the share of images that are named right."""
        return {"accuracy": float((answers == targets.label).mean())}

    @final
    def rows(self, answers: NDArray[Any], targets: NamedImages) -> list[Row]:
        """Return each image's name, the answer given and the right one."""
        given, right = self.decode(answers), self.decode(targets.label)
        names = [
            "an image" if number == _EXTERNAL else self.name_of(number)  # the first needs no file
            for number in targets.number.tolist()
        ]
        return [Row(n, a, b, a == b) for n, a, b in zip(names, given, right, strict=True)]

    @final
    def probe_targets(self, batch: NamedImages) -> ProbeTargets:
        """Return what there is to know while an image is read row by row, from the top.

        The number of the `row`, the sum of its pixels (1 for one that is all ink, or white), that
        sum over the rows so far, and throughout the `label`.
        """
        total = batch.image.astype(np.float64).sum(axis=(1, 3))
        reading = {
            "row": np.broadcast_to(np.arange(total.shape[1], dtype=np.float64), total.shape),
            self.terms.sum: total,
            f"{self.terms.sum} so far": total.cumsum(axis=1),
            "label": batch.label[:, 0],
        }
        return ProbeTargets(reading, {}, position_keys=("row", ""))

    @final
    def name_in_split(self, number: int) -> str:
        """Return the name of an image by its split and its place there, such as `test/17`."""
        for split, within in self.ranges.items():
            if number in within:
                return f"{split}/{number - within.start}"
        raise AssertionError(f"no split has an image {number}")

    def _encode_one(self, x: Any) -> NamedImages:
        x = str(x) if isinstance(x, Path) else x
        number = self._number(x.strip()) if isinstance(x, str) else None
        if number is not None:
            return self.load(np.array([number]))
        unknown = np.array([_EXTERNAL])
        return NamedImages(self._outside(x)[None], unknown[:, None], unknown)

    def _number(self, name: str) -> int | None:
        found = _NAME.fullmatch(name)
        if found is None:
            return self.number_of(name)
        split, at = found[1], int(found[2])
        within = self.ranges[cast("Split", split)]
        if at >= len(within):
            problem = f"{split} has {len(within)} {self.terms.many}"
            accepted = f"{split}/0 to {split}/{len(within) - 1}"
            raise ConfigError(f"input {name!r}", "", problem, accepted)
        return within.start + at

    def _outside(self, x: Any) -> NDArray[np.float32]:
        spec, terms = self.spec, self.terms
        if not isinstance(x, str):
            return check_image(x, (spec.num_channels, spec.height, spec.width), terms.ends)
        place, path = (
            f"input {x[:_SHOWN]!r}{'…' if len(x) > _SHOWN else ''}",
            expand_user(x.strip()),
        )
        if not is_file(path):
            raise ConfigError(
                place, "", f"is neither the name of {terms.one} nor a file", terms.accepted
            )
        return self.read(path, place)


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
