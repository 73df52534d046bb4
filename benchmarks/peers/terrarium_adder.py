"""The agent on the sums of the peers: progress, records and checkpoints on, as `learn()` has them.

`--set NAME=VALUE` changes any setting of the agent, in either mode.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import torch

import agents
import tasks
from agents.core.config import read_file, read_option
from agents.core.version import VERSION
from benchmarks.data import NUM_SUMS, TASK
from benchmarks.measure import Terminal, scratch
from benchmarks.peers.common import ROOT, add_mode, parser, report
from benchmarks.steps import NEVER, seconds_of_learning
from tasks.core.task import Task, num_batches

RECIPE = {  # for accuracy; what is not named there is the agent's default
    name: given.value
    for name, given in read_file(ROOT / "configs" / "add3x2.yaml").items()
    if name != "agent" and not name.startswith("task.")
}


def measure_throughput(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the samples per second of the second epoch, without an evaluation."""
    agent = agents.make(
        "seq2seq_adder", task=task, device="cpu", **{**settings, "eval_every": NEVER}
    )
    epoch = num_batches(task, agent.config.batch_size)
    seconds = seconds_of_learning(agent, warm=epoch, steps=epoch)
    return {"samples_per_s": task.num_samples_in("train") / seconds}


def measure_accuracy(task: Task, settings: Mapping[str, Any], target: float) -> dict[str, Any]:
    """Return the seconds of training until the first evaluation at `target`; None: not reached.

    The clock is the history's `time/seconds`, which stands still during evaluations.
    """
    chosen = {**RECIPE, **settings}
    chosen["log_every"] = chosen["eval_every"]  # so that each evaluation has a time
    agent = agents.make("seq2seq_adder", task=task, device="cpu", **chosen)
    begun = time.perf_counter()
    with scratch() as folder, contextlib.redirect_stderr(Terminal()):
        agent.learn(run_dir=folder, progress=True)
    wall_seconds = time.perf_counter() - begun
    clock = dict(zip(*agent.history.series("time/seconds"), strict=True))
    steps, scores = agent.history.series("eval/exact_match")
    reached = [step for step, score in zip(steps, scores, strict=True) if score >= target]
    return {
        "seconds": clock[reached[0]] if reached else None,
        "steps": reached[0] if reached else agent.state.cursor.step,
        "best": max(scores),
        "wall_seconds": wall_seconds,
        "settings": chosen,
    }


def main() -> None:
    """Measure in one of the two modes and print it."""
    parse = parser("Terrarium's seq2seq_adder", batch=256)
    add_mode(parse)
    parse.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parse.parse_args()
    given = {name: found.value for name, found in map(read_option, options.set)}
    settings = {"batch_size": options.batch, "seed": options.seed, **given}
    task = tasks.make(TASK, num_samples=options.limit or NUM_SUMS)
    if options.mode == "throughput":
        found = measure_throughput(task, settings)
    else:
        found = measure_accuracy(task, settings, options.target)
    report(**found, versions={"terrarium": VERSION, "torch": torch.__version__})


if __name__ == "__main__":
    main()
