"""What saving a checkpoint costs after ever more records: the same.

The agent is the adder, with the records that it makes by default. Each history is in the run's
folder before the clock starts, as it is in a run that made it there, and grows between two saves.
"""

import time

import agents
from agents.core.agent import Agent
from agents.core.runs.history import History, Record
from agents.core.runs.run_folder import RunFolder
from benchmarks.measure import Figures, median, scratch, table, tell

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


def seconds_and_bytes(agent: Agent, rounds: int) -> tuple[list[float], int, int]:
    """Return the seconds of each save, the bytes of the last one, and of the folder's history."""
    seconds = []
    records = agent.history.part(0, BETWEEN).records
    with scratch() as path, RunFolder.locked(path) as folder:
        folder.save(0, agent.checkpoint, keep=2)
        for number in range(1, rounds + 1):
            for record in records:
                agent.history.add(record)
            begun = time.perf_counter()
            folder.save(number, agent.checkpoint, keep=2)
            seconds.append(time.perf_counter() - begun)
        saved = folder.checkpoints()[0].stat().st_size
        return seconds, saved, sum(file.stat().st_size for file in path.glob("history/*"))


def measure(rounds: int = ROUNDS) -> Figures:
    """Save after each number of records."""
    records, figures = made_records(), {}
    for num in NUM_RECORDS:
        agent = agents.make("seq2seq_adder", task="add3x3", device="cpu", threads=1)
        agent.state.history = long_history(records, num)
        seconds, saved, filed = seconds_and_bytes(agent, rounds)
        tell(f"{num:,} records: {1000 * median(seconds):.1f} ms")
        figures[f"{num:,} records"] = {
            "ms": 1000 * median(seconds), "bytes": saved, "history_bytes": filed,
        }  # fmt: skip
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
            f"{case['bytes'] / 1e6:.2f}",
            f"{case['history_bytes'] / 1e6:.1f}",
        ]
        for name, case in cases.items()
    ]
    head = ["a checkpoint after", "ms", "ratio", "accepted", "MB", "MB of history beside"]
    return table(head, rows)
