"""The command: `python -m benchmarks NAME`; NAME is one of COMMANDS, all, or summary."""

import argparse
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import summary
from benchmarks.measure import Figures, tell, write_results
from benchmarks.reading.options import add_options
from tasks.core.settings import TerrariumError

LOADED = 0.5  # load average
Options = argparse.Namespace


def _in_rounds(module: Any, options: Options) -> Figures:
    found: Figures = module.measure(options.rounds or module.ROUNDS)
    return found


def _in_rounds_of_steps(module: Any, options: Options) -> Figures:
    found: Figures = module.measure(options.rounds or module.ROUNDS, options.steps)
    return found


class Command(NamedTuple):
    """A measurement.

    Attributes:
        module: in `benchmarks`; it is imported when the command runs, with what it needs.
        measure: takes the module and the options, and returns the figures.
        report: name of the module's function from the figures to text.
    """

    module: str
    measure: Callable[[Any, Options], Figures] = _in_rounds
    report: str = "report"


COMMANDS = {
    "start": Command("start"),
    "encoding": Command("encoding"),
    "overhead": Command("overhead", _in_rounds_of_steps),
    "loops": Command("loops", _in_rounds_of_steps),
    "products": Command("products", _in_rounds_of_steps),
    "peers": Command(
        "comparison",
        lambda module, o: module.throughput(o.rounds or module.ROUNDS, o.limit),
        "report_throughput",
    ),
    "accuracy": Command(
        "comparison",
        lambda module, o: module.accuracy(o.seeds or module.SEEDS, o.limit, o.epochs, o.set),
        "report_accuracy",
    ),
    "memory": Command("memory", _in_rounds_of_steps),
    "growth": Command("growth", lambda m, o: m.measure(o.rounds or m.ROUNDS, o.limit)),
    "recording": Command("recording", _in_rounds_of_steps),
    "checkpoints": Command("checkpoints"),
    "recurrent": Command("recurrent"),
    "attribution": Command("attribution"),
    "inspect": Command("looking"),
    "drawing": Command("drawing"),
    "opening": Command("opening", report="report_table"),
    "patches": Command("patches"),
    "prefetching": Command("prefetching", _in_rounds_of_steps),
    "ranks": Command("ranks", _in_rounds_of_steps),
    "files": Command("files", lambda m, o: m.measure(o.rounds or m.ROUNDS, o.limit)),
    "busy": Command("busy", _in_rounds_of_steps),
    "generation": Command("generation", _in_rounds_of_steps),
    "messages": Command("messages"),
    "beam": Command("beam"),
    "adder": Command("adder", lambda m, o: m.measure(o.seeds or m.SEEDS, o.set)),
    "gpu": Command("gpu.command", lambda module, o: module.measure(o)),
    "read": Command("reading.command", lambda module, o: module.measure(o)),
}
# `read` trains for hours, `files` takes 4 GB of disk, and `gpu` is of another machine.
IN_ALL = [name for name in COMMANDS if name not in ("files", "gpu", "read")]


def parser() -> argparse.ArgumentParser:
    """Return the parser; 0 stands for each measurement's own number."""
    parse = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parse.add_argument
    add("command", nargs="?", default="all", choices=[*COMMANDS, "all", "summary"])
    add("--rounds", type=int, default=0, help="of all but accuracy and adder")
    add("--seeds", type=int, default=0, help="of accuracy and adder")
    add("--write", action="store_true", help="summary: put the table into docs/performance.md")
    add_options(parse)
    graphics = parse.add_argument_group("of gpu")
    graphics.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    graphics.add_argument("--batch", type=int, action="append", help="samples in a step")
    trial = parse.add_argument_group("for a quick trial; the figures are not written down")
    trial.add_argument(
        "--limit", type=int, default=0,
        help="samples, of peers, accuracy, gpu and read; number of files; sizes of growth, "
        "largest over smallest",
    )  # fmt: skip
    trial.add_argument("--epochs", type=int, default=0, help="the most that Keras takes")
    trial.add_argument(
        "--steps", type=int, default=0,
        help="timed steps of overhead, loops, products, memory, recording, prefetching, ranks "
        "and busy; "
        "characters of generation",
    )  # fmt: skip
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
        if options.write:
            summary.write()
        print(summary.report())
        return
    load = os.getloadavg()[0]
    if load > LOADED:
        tell(f"other work runs on this machine (load {load:.1f}): the figures will not be right")
    is_trial = any((options.limit, options.epochs, options.steps, options.set, options.only))
    is_trial = is_trial or (options.command == "gpu" and options.device == "cpu")
    for name in IN_ALL if options.command == "all" else [options.command]:
        command = COMMANDS[name]
        module: Any = importlib.import_module(f"benchmarks.{command.module}")
        try:
            figures = command.measure(module, options)
        except TerrariumError as error:
            raise SystemExit(f"{name}: {error}") from None
        print(f"\n{getattr(module, command.report)(figures)}\n", flush=True)
        if not is_trial:
            write_results(name, figures, load)
    if options.command == "all":
        print(f"\n{summary.report()}")


if __name__ == "__main__":
    main()
