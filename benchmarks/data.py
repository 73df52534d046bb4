"""The sums that all peers learn from, as one .npz file of codes."""

import numpy as np

import tasks
from benchmarks.peers.common import DATA, Sums

TASK = "add3x2"
NUM_SUMS = 50_000  # a tenth of them is held out


def write() -> None:
    """Write the same sums that the agent draws when its task has `num_samples=50_000`."""
    task = tasks.make(TASK, num_samples=NUM_SUMS)
    train = task.samples("train", NUM_SUMS)
    held = task.samples("validation", NUM_SUMS)
    DATA.parent.mkdir(exist_ok=True)
    np.savez(DATA, **Sums(*train, *held)._asdict())


if __name__ == "__main__":
    write()
