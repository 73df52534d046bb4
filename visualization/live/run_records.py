"""Records of a run that may still be learning, read from where they were left.

The file has one JSON object a line: tags such as `train/loss` to numbers, with `step`.
"""

import json
import os
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from visualization.live.messages import is_number

Record = Mapping[str, float]
CHUNK = 2**21  # bytes that are read at once, so that a page stays answered
MOST_BINS = 512  # points of a curve that are sent
MOST_JUDGED = 4096  # records that are kept for verdicts; of more, every second one
_MARK = 64  # bytes before the place where reading goes on, by which another file is told


def label_of(tag: str) -> tuple[str, str] | None:
    """Return the plot and the label of a tag's curve; None: it is not drawn.

    >>> label_of("eval/loss"), label_of("chance/accuracy")
    (('loss', 'validation'), ('scores', 'accuracy, a guess'))
    """
    kind, _, name = tag.partition("/")
    if tag in ("train/grad_norm", "train/lr"):
        return {"grad_norm": ("gradient norm", "norm"), "lr": ("learning rate", "rate")}[name]
    whole, _, part = name.partition("/")
    words = {"train": "training", "eval": "validation", "chance": "a guess"}
    if whole == "loss" and kind in words:
        return "loss", words[kind] + (f": {part}" if part else "")
    if kind in ("eval", "chance"):
        return "scores", name if kind == "eval" else f"{name}, a guess"
    return None


@final
class Series:
    """Values of one tag over the steps; of many, bins of neighbours are sent."""

    def __init__(self) -> None:
        self._steps, self._values = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._values)

    def add(self, step: float, value: float) -> None:
        """Append a value."""
        self._steps.append(step)
        self._values.append(value)

    @property
    def last(self) -> tuple[float, float]:
        """The last step and its value."""
        return self._steps[-1], self._values[-1]

    @property
    def stride(self) -> int:
        """Values in a bin: the smallest power of two by which at most 512 bins are full."""
        stride = 1
        while len(self) // stride > MOST_BINS:
            stride *= 2
        return stride

    def bins(self, first: int = 0) -> NDArray[np.float64]:
        """Return of each bin from `first` its last step, and mean, minimum and maximum (4, n)."""
        stride = self.stride
        steps = np.array(self._steps[first * stride :])
        values = np.array(self._values[first * stride :])
        starts = np.arange(0, len(values), stride)
        if not len(starts):
            return np.zeros((4, 0))
        ends = np.minimum(starts + stride, len(values))
        return np.stack([
            steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts),
            np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts),
        ])  # fmt: skip


@final
class RunRecords:
    """Records of a growing file, which is another one when a run begins again.

    Attributes:
        generation: changes when the file is another, and all is read anew.
        series: of each tag that is drawn.
        judged: records for verdicts; every second one of each kind, where there are very many.
        is_thinned: whether some are left out.
        num_records: that were read.
        num_unreadable: lines that are no record.
        last_step: of the last record; 0 without any.
        samples_per_s: of training, as it was recorded last; 0: not yet.
        is_behind: whether the file has more than was read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.generation = path, 0
        self._begin()

    def _begin(self) -> None:
        self.generation += 1
        self._offset, self._inode, self._mark = 0, -1, b""
        self.series: dict[str, Series] = {}
        self.judged: list[Record] = []
        self.is_thinned = self.is_behind = False
        self.num_records = self.num_unreadable = 0
        self.last_step, self.samples_per_s = 0, 0.0

    def update(self) -> float | None:
        """Read what was added; return when the file changed last (s); None: there is none."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if not self._is_same(file, status):
                    self._begin()
                    self._inode = status.st_ino
                file.seek(self._offset)
                content = file.read(CHUNK)
        except OSError:  # there is none yet, or the folder is gone
            self.is_behind = False
            return None
        whole = content[: content.rfind(b"\n") + 1]  # the rest is still being written
        if not whole and len(content) == CHUNK:  # no record is so long
            whole = content
        for line in whole.splitlines():
            self._take(line)
        self._offset += len(whole)
        self._mark = (self._mark + whole)[-_MARK:]
        self.is_behind = bool(whole) and len(content) == CHUNK
        return status.st_mtime

    def _is_same(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Tell whether the file still begins with what was read."""
        if self._inode != status.st_ino or status.st_size < self._offset:
            return False
        file.seek(self._offset - len(self._mark))
        return file.read(len(self._mark)) == self._mark

    def _take(self, line: bytes) -> None:
        """Take up one line."""
        if not line.strip():
            return
        record = _parsed(line)
        if record is None:
            self.num_unreadable += 1
            return
        self.num_records += 1
        self.last_step = int(record["step"])
        self.samples_per_s = record.get("time/samples_per_s", self.samples_per_s)
        for tag, value in record.items():
            if label_of(tag) is not None:
                self.series.setdefault(tag, Series()).add(record["step"], value)
        self.judged.append(record)
        if len(self.judged) > MOST_JUDGED:
            self._thin()

    def _thin(self) -> None:
        """Leave out every second record of each kind, but those of the few of a kind."""
        kinds = [tuple(record) for record in self.judged]
        many = {kind for kind in set(kinds) if kinds.count(kind) > MOST_JUDGED // 16}
        seen: dict[tuple[str, ...], int] = {}
        kept = []
        for record, kind in zip(self.judged, kinds, strict=True):
            seen[kind] = seen.get(kind, 0) + 1
            if kind not in many or seen[kind] % 2:
                kept.append(record)
        self.judged, self.is_thinned = kept, True


def _parsed(line: bytes) -> dict[str, float] | None:
    """Return the finite numbers of a record, by tag; None: it is none."""
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    record = {
        sys.intern(tag): value for tag, value in values.items()
        if is_number(value)
    }  # fmt: skip
    return record if "step" in record else None
