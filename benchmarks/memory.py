"""The most memory that a process had: training and inspecting the adder, beside a bare loop.

`python -m benchmarks.memory SIDE` is one side, in a process of its own: what is resident at most is
counted from the start of a process (`ru_maxrss`).
"""

import argparse
import contextlib
import functools
import json
import resource
import sys
from collections.abc import Callable

from benchmarks.data import write
from benchmarks.measure import Figures, Terminal, own, run_child, scratch, table, tell
from benchmarks.peers.common import load
from benchmarks.peers.common import report as print_figures

ROUNDS = 1
STEPS = 300
BATCH = 128
ACCEPTED = 1.5  # times the bare loop, of training


def _import() -> None:
    import torch  # noqa: F401


def _bare(steps: int) -> None:
    from benchmarks.peers.bare import adder_model, answer_loss, bare_loop, training_tensors

    model = adder_model("states")
    loss_fn = functools.partial(answer_loss, model)
    bare_loop(model, loss_fn, training_tensors(load(0)), BATCH, steps, clip_norm=1.0)


def _learn(steps: int, inspect: bool) -> None:
    import agents
    import tasks
    from benchmarks.data import NUM_SUMS, TASK

    task = tasks.make(TASK, num_samples=NUM_SUMS)
    agent = agents.make(
        "seq2seq_adder", task=task, device="cpu", batch_size=BATCH, eval_every=max(1, steps // 3)
    )
    with scratch() as folder, contextlib.redirect_stderr(Terminal()):
        agent.learn(steps, run_dir=folder, progress=True)
        if inspect:
            agent.inspect()


SIDES: dict[str, tuple[str, Callable[[int], None]]] = {
    "import": ("import torch and the tasks", lambda steps: _import()),
    "bare": ("a bare loop", _bare),
    "learn": ("learn(), evaluations and checkpoints with it", lambda steps: _learn(steps, False)),
    "inspect": ("learn(), then inspect() with all views", lambda steps: _learn(steps, True)),
}


def peak() -> float:
    """Return the most megabytes that were resident in this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the megabytes of each side, the least of some rounds."""
    write()  # what the bare loop loads
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            told = run_child(own("-m", "benchmarks.memory", side, "--steps", str(steps or STEPS)))
            found[side].append(json.loads(told.splitlines()[-1])["megabytes"])
            tell(f"{SIDES[side][0]}: {found[side][-1]:.0f} MB")
    megabytes = {side: min(values) for side, values in found.items()}
    return {
        "megabytes": megabytes,
        "ratio": {side: value / megabytes["bare"] for side, value in megabytes.items()},
    }


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [words, f"{figures['megabytes'][side]:.0f}", f"{figures['ratio'][side]:.2f}",
         f"≤ {ACCEPTED}" if side == "learn" else ""]
        for side, (words, _) in SIDES.items()
    ]  # fmt: skip
    return table(["most memory, add3x2 at batch 128", "MB", "× bare loop", "accepted"], rows)


def main() -> None:
    """Do one side and print its figure."""
    parse = argparse.ArgumentParser(description="the most memory of one side")
    parse.add_argument("side", choices=SIDES)
    parse.add_argument("--steps", type=int, default=STEPS)
    options = parse.parse_args()
    SIDES[options.side][1](options.steps)
    print_figures(megabytes=peak())


if __name__ == "__main__":
    main()
