"""Sets of objects with coordinates, a value and a kind, as in Xu et al. 2020, 1905.13211."""

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import setting
from tasks.core.task import SetTargets, Split
from tasks.reasoning.base import LARGEST, Draws, Sample, SetTask, check_size, integer, whole_numbers


@attrs.frozen(kw_only=True)
class ObjectTask(SetTask):
    """Base class of tasks over objects with coordinates, a value and a kind, all evenly random.

    Inputs to a network are coordinates and value, scaled so that their largest in training is 10,
    and the kind, one-hot (the paper's code gives all as they are). A person writes the numbers of
    an object, coordinates first, and a semicolon between objects.
    """

    least: ClassVar[int] = 1  # objects of a set
    num_objects: int = setting(25, "objects of a set", ge=2, le=1000)
    num_coordinates: int = setting(8, "coordinates of an object", ge=1, le=100)
    max_coordinate: int = setting(20, "largest coordinate; the smallest is 0", ge=1, le=10_000)
    max_value: int = setting(100, "largest value of an object; the smallest is 0", ge=1, le=10_000)
    num_kinds: int = setting(6, "kinds of objects", ge=1, le=100)
    test_num_objects: int | None = setting(
        None, "objects of a set of the test split; null: as in training", ge=2, le=1000
    )
    test_max_coordinate: int | None = setting(
        None, "largest coordinate in the test split; null: as in training", ge=1, le=10_000
    )
    test_max_value: int | None = setting(
        None, "largest value in the test split; null: as in training", ge=1, le=10_000
    )

    @property
    def num_features(self) -> int:
        """Coordinates, value, and a number for each kind."""
        return self.num_coordinates + 1 + self.num_kinds

    @property
    def scales(self) -> tuple[int, int]:
        """The largest coordinate and value in training, by which inputs are scaled."""
        return self.max_coordinate, self.max_value

    def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
        """Draw sets: coordinates, value and kind of each object (num, n, numbers)."""
        names = "num_objects", "max_coordinate", "max_value"
        size, coordinate, value = (self.setting_in(name, split) for name in names)
        most = [coordinate] * self.num_coordinates + [value, self.num_kinds - 1]
        sample = (rng.integers(0, np.array(most) + 1, (num, size, len(most)), np.int64),)
        return Draws(sample, *self.answers_and_classes(sample))

    def answers_and_classes(self, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return right answers (num,) and classes (num,) of samples, all of one class."""
        return self.answers(sample), np.zeros(len(sample[0]), np.int64)

    def arrays(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], None]:
        """Return objects (num, n, features) and the mask."""
        (objects,) = sample
        numbers = (objects[..., :-1] * self._factors).astype(np.float32)
        kinds = np.eye(self.num_kinds, dtype=np.float32)[objects[..., -1]]
        return np.concatenate([numbers, kinds], axis=-1), np.ones(objects.shape[:2], bool), None

    def objects_of(self, batch: SetTargets) -> list[NDArray[np.int64]]:
        """Return coordinates, value and kind of the objects (n, numbers) of each set of a batch."""
        own = self.num_coordinates + 1
        numbers = whole_numbers(np.asarray(batch.objects)[..., :own] / self._factors)
        kinds = np.asarray(batch.objects)[..., own:].argmax(-1)
        objects = np.concatenate([numbers, kinds[..., None]], axis=-1)
        return [rows[mask] for rows, mask in zip(objects, np.asarray(batch.mask), strict=True)]

    @property
    def _factors(self) -> NDArray[np.float64]:
        return LARGEST / np.array([self.max_coordinate] * self.num_coordinates + [self.max_value])

    def read(self, text: str) -> Sample:
        """Return the set of a text such as `3 0 20 5 7 1 9 14 42 2; …`."""
        parts = [part.split() for part in text.split(";") if part.strip()]
        check_size(len(parts), self.least, self.largest("num_objects"), "objects")
        return (np.array([[self._read_object(part) for part in parts]], np.int64),)

    def _read_object(self, numbers: Sequence[str]) -> list[int]:
        if len(numbers) != self.num_coordinates + 2:
            accepted = f"{self.num_coordinates} coordinates, a value and a kind, with spaces"
            raise ValueError(f"an object of {len(numbers)} numbers", accepted)
        coordinate, most = (self.largest(name) for name in ("max_coordinate", "max_value"))
        *coordinates, value, kind = numbers
        return [
            *(integer(number, "coordinate", 0, coordinate) for number in coordinates),
            integer(value, "value", 0, most),
            integer(kind, "kind", 0, self.num_kinds - 1),
        ]

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each set as text, and its number of objects."""
        sets = self.objects_of(batch)
        return [
            ("; ".join(" ".join(map(str, row)) for row in objects.tolist()), f"{len(objects)}")
            for objects in sets
        ]
