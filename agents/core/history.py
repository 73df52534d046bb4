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

        The training loss is the mean since the evaluation before; None if none was recorded.
        """
        found: list[tuple[int, float | None, float]] = []
        since: list[float] = []
        for record in self.records:
            since += [record["train/loss"]] if "train/loss" in record else []
            if "eval/loss" in record:
                mean = sum(since) / len(since) if since else None
                found.append((int(record["step"]), mean, record["eval/loss"]))
                since = []
        return found
