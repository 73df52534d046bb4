"""Training history: records of scalars by tag."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visualization.records import Curves

Record = dict[str, float]
_Kind = tuple[tuple[str, bool], ...]  # tags, and whether the number is an integer


class History:
    """Records in the order of their steps; each is a flat map of tags (`train/loss`) to numbers.

    Every record has `step`. Tags that begin with `time/` are measured by the clock and differ
    between two otherwise identical runs; all others are exact.

    A record is stored as its numbers in one long array of doubles, and the number of its kind:
    which tags it has, in which order, and which of them are integers. There are few kinds.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._kinds: dict[_Kind, int] = {}
        self._kind = array("q")  # of each record
        self._end = array("q")  # of each record's numbers
        self._numbers = array("d")
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._kind)

    def __iter__(self) -> Iterator[Record]:
        """Iterate over the records."""
        kinds = list(self._kinds)
        for number, kind in enumerate(self._kind):
            numbers = self._numbers[self._start(number) : self._end[number]]
            yield {
                tag: int(value) if is_integer else value
                for (tag, is_integer), value in zip(kinds[kind], numbers, strict=True)
            }

    @property
    def records(self) -> list[Record]:
        """The records, as a new list."""
        return list(self)

    def add(self, record: Record) -> None:
        """Append one record."""
        kind = tuple((tag, isinstance(value, int)) for tag, value in record.items())
        self._numbers.extend(array("d", record.values()))
        self._kind.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._end.append(len(self._numbers))

    def extend(self, other: "History") -> None:
        """Append all records of another history, which stays as it is."""
        kinds = [self._kinds.setdefault(kind, len(self._kinds)) for kind in other._kinds]
        offset = len(self._numbers)
        self._kind.extend(kinds[kind] for kind in other._kind)
        self._end.extend(offset + end for end in other._end)
        self._numbers.extend(other._numbers)

    def part(self, begin: int, end: int) -> "History":
        """Return records `begin` to `end` (excluded) as a history; only these are copied."""
        part, first = History(), self._start(begin)
        part._kinds = dict(self._kinds)
        part._kind = self._kind[begin:end]
        part._end = array("q", (stop - first for stop in self._end[begin:end]))
        part._numbers = self._numbers[first : self._start(end)]
        return part

    def pack(self) -> tuple[list[Any], dict[str, Tensor]]:
        """Return JSON values and tensors, from which `unpack` makes the same history."""
        tensors = {
            "kind": torch.from_numpy(np.array(self._kind, np.int32)),
            "numbers": torch.from_numpy(np.array(self._numbers, np.float64)),
        }
        return [list(map(list, kind)) for kind in self._kinds], tensors

    @classmethod
    def unpack(cls, kinds: list[Any], tensors: Mapping[str, Tensor]) -> "History":
        """Return the history of what `pack` returned.

        Raises:
            ValueError, IndexError, KeyError, TypeError: it is not what `pack` returns.
        """
        history = cls()
        history._kinds = {tuple((t, i) for t, i in kind): n for n, kind in enumerate(kinds)}
        lengths = np.array([len(kind) for kind in kinds], np.int64)
        order = tensors["kind"].numpy().astype(np.int64)
        if (
            order.ndim != 1
            or (order < 0).any()
            or lengths[order].sum() != tensors["numbers"].numel()
        ):
            raise ValueError("its records do not have as many numbers as their kinds say")
        history._kind = array("q", order.tobytes())
        history._end = array("q", lengths[order].cumsum().tobytes())
        history._numbers = array("d", tensors["numbers"].numpy().tobytes())
        return history

    def _start(self, number: int) -> int:
        """Return where a record's numbers begin."""
        return self._end[number - 1] if number else 0

    def series(self, tag: str) -> tuple[list[int], list[float]]:
        """Return the steps at which a tag was recorded, and its values."""
        rows = [record for record in self if tag in record]
        return [int(record["step"]) for record in rows], [record[tag] for record in rows]

    def last(self, tag: str) -> float | None:
        """Return the latest value of a tag; None: it was never recorded."""
        kinds = [[name for name, _ in kind] for kind in self._kinds]
        for number in reversed(range(len(self))):
            names = kinds[self._kind[number]]
            if tag in names:
                return self._numbers[self._start(number) + names.index(tag)]
        return None

    def tags(self) -> list[str]:
        """Return all tags, in the order of their first appearance."""
        return list(dict.fromkeys(tag for kind in self._kinds for tag, _ in kind if tag != "step"))

    def losses(self) -> list[tuple[int, float | None, float]]:
        """Return of each evaluation step, training loss and validation loss.

        The training loss is the mean of all steps since the evaluation before; None if none was
        recorded.
        """
        rows: list[tuple[int, float | None, float]] = []
        total, at, last = 0.0, 0, 0  # sum of losses since; step of the last record, evaluation
        for record in self:
            step = int(record["step"])
            if "train/loss" in record:
                total, at = total + record["train/loss"] * (step - at), step
            if "eval/loss" in record:
                rows.append((step, total / (at - last) if at > last else None, record["eval/loss"]))
                total, last = 0.0, at
        return rows

    def curves(self) -> Curves:
        """Learning curves: loss, scores, gradient norm and learning rate over the steps."""
        series = self.series
        scores = {tag[5:]: series(tag) for tag in self.tags() if tag.startswith("eval/")}
        panels = {
            "loss": {"training": series("train/loss"), "validation": scores.pop("loss", ([], []))},
            "validation scores": scores,
            "gradient norm": {"norm": series("train/grad_norm")},
            "learning rate": {"rate": series("train/lr")},
        }
        return Curves(panels, frozenset({"loss", "gradient norm"}))
