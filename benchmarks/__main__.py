"""The command: `python -m benchmarks NAME`; NAME is one of COMMANDS, or all."""

import argparse
import os
from collections.abc import Callable

from benchmarks import (
    adder,
    beam,
    busy,
    checkpoints,
    comparison,
    drawing,
    encoding,
    files,
    looking,
    opening,
    overhead,
    patches,
    prefetching,
    ranks,
    recording,
    recurrent,
    start,
    summary,
)
from benchmarks.measure import Figures, tell, write_results
from benchmarks.reading import command as reading
from tasks.core.settings import TerrariumError

LOADED = 0.5  # load average
Measure = Callable[[argparse.Namespace], Figures]

COMMANDS: dict[str, tuple[Measure, Callable[[Figures], str]]] = {
    "start": (lambda o: start.measure(o.rounds or start.ROUNDS), start.report),
    "encoding": (lambda o: encoding.measure(o.rounds or encoding.ROUNDS), encoding.report),
    "overhead": (lambda o: overhead.measure(o.rounds or overhead.ROUNDS, o.steps), overhead.report),
    "peers": (
        lambda o: comparison.throughput(o.rounds or comparison.ROUNDS, o.limit),
        comparison.report_throughput,
    ),
    "accuracy": (
        lambda o: comparison.accuracy(o.seeds or comparison.SEEDS, o.limit, o.epochs, o.set),
        comparison.report_accuracy,
    ),
    "recording": (
        lambda o: recording.measure(o.rounds or recording.ROUNDS, o.steps),
        recording.report,
    ),
    "checkpoints": (
        lambda o: checkpoints.measure(o.rounds or checkpoints.ROUNDS),
        checkpoints.report,
    ),
    "recurrent": (lambda o: recurrent.measure(o.rounds or recurrent.ROUNDS), recurrent.report),
    "inspect": (lambda o: looking.measure(o.rounds or looking.ROUNDS), looking.report),
    "drawing": (lambda o: drawing.measure(o.rounds or drawing.ROUNDS), drawing.report),
    "opening": (lambda o: opening.measure(o.rounds or opening.ROUNDS), opening.report_table),
    "patches": (lambda o: patches.measure(o.rounds or patches.ROUNDS), patches.report),
    "prefetching": (
        lambda o: prefetching.measure(o.rounds or prefetching.ROUNDS, o.steps or prefetching.STEPS),
        prefetching.report,
    ),
    "ranks": (lambda o: ranks.measure(o.rounds or ranks.ROUNDS, o.steps), ranks.report),
    "files": (lambda o: files.measure(o.rounds or files.ROUNDS, o.limit), files.report),
    "busy": (lambda o: busy.measure(o.rounds or busy.ROUNDS, o.steps), busy.report),
    "beam": (lambda o: beam.measure(o.rounds or beam.ROUNDS), beam.report),
    "adder": (lambda o: adder.measure(o.seeds or adder.SEEDS, o.set), adder.report),
    "read": (reading.measure, reading.report),
}
IN_ALL = [name for name in COMMANDS if name not in ("read", "files")]  # hours, and 4 GB of disk


def parser() -> argparse.ArgumentParser:
    """Return the parser; 0 stands for each measurement's own number."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parse.add_argument
    add("command", nargs="?", default="all", choices=[*COMMANDS, "all", "summary"])
    add("--rounds", type=int, default=0, help="of all but accuracy and adder")
    add("--seeds", type=int, default=0, help="of accuracy and adder")
    reading.add_options(parse)
    trial = parse.add_argument_group("for a quick trial; the figures are not written down")
    trial.add_argument(
        "--limit", type=int, default=0, help="of samples (peers, accuracy, read) or files"
    )
    trial.add_argument("--epochs", type=int, default=0, help="the most that Keras takes")
    trial.add_argument("--steps", type=int, default=0, help="timed steps of one side")
    trial.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the agent, in accuracy and adder; of all of them in read",
    )
    return parse


def main() -> None:
    """Measure, print tables, and write the figures to results.json."""
    options = parser().parse_args()
    if options.command == "summary":
        print(summary.report())
        return
    load = os.getloadavg()[0]
    if load > LOADED:
        tell(f"other work runs on this machine (load {load:.1f}): the figures will not be right")
    is_trial = any((options.limit, options.epochs, options.steps, options.set, options.only))
    for name in IN_ALL if options.command == "all" else [options.command]:
        measure, report = COMMANDS[name]
        try:
            figures = measure(options)
        except TerrariumError as error:
            raise SystemExit(f"{name}: {error}") from None
        print(f"\n{report(figures)}\n", flush=True)
        if not is_trial:
            write_results(name, figures, load)
    if options.command == "all":
        print(f"\n{summary.report()}")


if __name__ == "__main__":
    main()
