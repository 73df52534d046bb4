"""What saving a checkpoint costs after ever more records, beside writing as many bytes durably.

The agent is the adder, with the records that it makes by default. Each history is in the run's
folder before the clock starts, as it is in a run that made it there, and grows between two saves.
"""

import os
from pathlib import Path
from typing import NamedTuple

import agents
from agents.core.agent import Agent
from agents.core.runs.history import History, Record
from agents.core.runs.run_folder import RunFolder
from benchmarks.measure import Figures, median, median_ratio, scratch, seconds, table, tell

ROUNDS = 25
NUM_RECORDS = (1_000, 10_000, 100_000, 1_000_000)
BETWEEN = 10  # records that come between two saves
ACCEPTED = 2.0  # times the time after the fewest records


def made_records() -> list[Record]:
    """Return the records of a short run."""
    agent = agents.make(
        "seq2seq_adder", task="add3x3", device="cpu", threads=1,
        steps=40, eval_every=20, log_every=4, eval_samples=64,
    )  # fmt: skip
    return agent.learn().history.records


def long_history(records: list[Record], num: int) -> History:
    """Return a history of as many records, which are the same again and again."""
    return History(records[number % len(records)] for number in range(num))


class Saves(NamedTuple):
    """Seconds of each save and of each plain write; bytes of a checkpoint and of history."""

    seconds: list[float]
    written: list[float]
    size: int
    history_size: int


def write_durably(path: Path, data: bytes) -> None:
    """Write bytes as every durable write must: to a part, flushed, renamed, folder flushed."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def saves(agent: Agent, rounds: int) -> Saves:
    """Save again and again, each time after a few more records, and write as many bytes in turn."""
    taken, written = [], []
    records = agent.history.part(0, BETWEEN).records
    with scratch() as path, RunFolder.locked(path) as folder:
        folder.save(0, agent.checkpoint, keep=2)
        data = folder.checkpoints()[0].read_bytes()
        for number in range(1, rounds + 1):
            for record in records:
                agent.history.add(record)
            taken.append(seconds(lambda number=number: folder.save(number, agent.checkpoint, 2)))  # type: ignore[misc]
            written.append(seconds(lambda: write_durably(path / "plain.bin", data)))
        size = folder.checkpoints()[0].stat().st_size
        return Saves(taken, written, size, sum(f.stat().st_size for f in path.glob("history/*")))


def measure(rounds: int = ROUNDS) -> Figures:
    """Save after each number of records."""
    records, figures = made_records(), {}
    for num in NUM_RECORDS:
        agent = agents.make("seq2seq_adder", task="add3x3", device="cpu", threads=1)
        agent.state.history = long_history(records, num)
        found = saves(agent, rounds)
        tell(f"{num:,} records: {1000 * median(found.seconds):.1f} ms")
        figures[f"{num:,} records"] = {
            "ms": 1000 * median(found.seconds),
            "write_ms": 1000 * median(found.written),
            "over_write": median_ratio(found.seconds, found.written),
            "bytes": found.size,
            "history_bytes": found.history_size,
        }
    return {"accepted_ratio": ACCEPTED, "cases": figures}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    cases = figures["cases"]
    first = next(iter(cases.values()))["ms"]
    rows = [
        [
            name,
            f"{case['ms']:.1f}",
            f"{case['ms'] / first:.2f}",
            f"≤ {figures['accepted_ratio']:.0f}",
            f"{case['over_write']:.2f}",
            f"{case['bytes'] / 1e6:.2f}",
            f"{case['history_bytes'] / 1e6:.1f}",
        ]
        for name, case in cases.items()
    ]
    head = [
        "a checkpoint after",
        "ms",
        "ratio",
        "accepted",
        "× write and fsync",
        "MB",
        "MB of history beside",
    ]
    return table(head, rows)
