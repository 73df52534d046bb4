"""What was recorded while an agent learned."""

from collections.abc import Iterator

Record = dict[str, float]


class History:
    """Records in the order of their steps; each is a flat map of tags (`train/loss`) to numbers.

    Every record has `step`. Tags that begin with `time/` are the clock's and differ between two
    otherwise identical runs; all others are exact.
    """

    def __init__(self, records: list[Record] | None = None) -> None:
        self.records: list[Record] = list(records or [])

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        """Iterate over the records."""
        return iter(self.records)

    def add(self, record: Record) -> None:
        """Append one record."""
        self.records.append(record)

    def series(self, tag: str) -> tuple[list[int], list[float]]:
        """Return the steps at which a tag was recorded, and its values."""
        rows = [record for record in self.records if tag in record]
        return [int(record["step"]) for record in rows], [record[tag] for record in rows]

    def tags(self) -> list[str]:
        """Return all tags, in the order of their first appearance."""
        return list(dict.fromkeys(tag for r in self.records for tag in r if tag != "step"))

    def losses(self) -> list[tuple[int, float | None, float]]:
        """Return of each evaluation step, training loss and validation loss.

        The training loss is the mean of all steps since the evaluation before; None if none was
        recorded.
        """
        found: list[tuple[int, float | None, float]] = []
        total, at, last = 0.0, 0, 0  # of the losses since; the step of the last record, evaluation
        for record in self.records:
            step = int(record["step"])
            if "train/loss" in record:
                total, at = total + record["train/loss"] * (step - at), step
            if "eval/loss" in record:
                found.append(
                    (step, total / (at - last) if at > last else None, record["eval/loss"])
                )
                total, last = 0.0, at
        return found
