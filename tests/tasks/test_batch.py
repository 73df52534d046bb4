"""Batches of any kind as arrays that a file without pickle can hold."""

import io
from typing import Any, NamedTuple

import numpy as np

from tasks.core.batch import Batch, plain_arrays


class Boxes(NamedTuple):
    """Boxes of an image."""

    corners: Any
    kinds: Any


class Scenes(NamedTuple):
    """Images with as many boxes as each has, their files, and nothing else."""

    image: Any
    boxes: Any
    file: Any
    mask: Any = None


class Graphs(Batch):
    """All edges of all graphs in one array."""

    num_samples = 2

    def take(self, begin: int, end: int) -> "Graphs":
        """Return all."""
        return self

    def map_arrays(self, function: Any) -> "Graphs":
        """Show the two arrays to a function."""
        function(np.arange(3))
        function(np.zeros((2, 4)))
        return self


def test_arrays_of_any_batch_are_saved_without_pickle() -> None:
    """Rectangular, ragged, nested, texts and classes of one's own: each number is in the file."""
    boxes = [Boxes(np.ones((n, 4)), np.arange(n)) for n in (2, 0, 1)]
    scenes = Scenes(np.zeros((3, 1, 2, 2)), boxes, ["a", "b", "c"])
    file = io.BytesIO()
    np.savez(file, **plain_arrays("batch", scenes), **plain_arrays("graphs", Graphs()))
    file.seek(0)
    arrays = {name: array.tolist() for name, array in np.load(file, allow_pickle=False).items()}
    assert arrays.pop("batch.image") == np.zeros((3, 1, 2, 2)).tolist()
    assert arrays.pop("batch.boxes.corners") == np.ones((3, 4)).tolist()
    assert arrays == {
        "batch.boxes.corners.lengths": [2, 0, 1], "batch.boxes.kinds": [0, 1, 0],
        "batch.boxes.kinds.lengths": [2, 0, 1], "batch.file": ["a", "b", "c"],
        "graphs.0": [0, 1, 2], "graphs.1": np.zeros((2, 4)).tolist(),
    }  # fmt: skip
