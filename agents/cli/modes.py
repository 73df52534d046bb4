"""What the command line can do: quick answers without torch, and the modes."""

import argparse
import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import agents
import tasks
from agents.cli.run_spec import Order, order_of_run, read_order, warn
from agents.core.config import describe
from tasks.core.paths import folder_path, make_folder
from tasks.core.registry import Entry
from tasks.core.settings import ConfigError, to_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.core.agent import Agent
    from visualization.report import Report

_OF_A_RUN = ("validate", "predict", "inspect", "diagnose")  # modes for which a folder says it all
_NUM_TESTED = 10_000  # samples, where the test split has as many


def train(order: Order) -> int:
    """Learn in the run's folder, then print worked sums and the scores on the test split."""
    from visualization import render

    _learn(order)
    best, answers, batch, scores = _test(order)
    print(render.text(best.answer_table(answers, batch, 12)))
    print(f"test: {_words(scores)} ({len(answers):,} withheld samples)")
    return 0


def _learn(order: Order) -> "Agent":
    """Learn in the run's folder, and write the losses as a table; return the agent."""
    from agents.core.runs.checkpoint import write_durably

    print(f"run folder: {order.run_dir}", file=sys.stderr)
    agent = order.make()
    agent.learn(run_dir=order.run_dir, resume=order.options.resume, progress=True)
    losses = _csv([["step", "loss", "val_loss"], *agent.history.losses()])
    write_durably(order.run_dir / "loss.csv", losses)
    return agent


def _test(order: Order) -> tuple["Agent", "NDArray[Any]", Any, dict[str, float]]:
    """Return the best agent of a run, its answers to the test, the questions, and the scores."""
    best = order.load_trained()
    answers, batch = best.answers("test", _NUM_TESTED)
    scores = best.task.score(answers, batch)
    _write_scores(order.run_dir / "test.json", scores, len(answers), seed=0)
    return best, answers, batch, scores


def _scores(order: Order) -> dict[str, float]:
    """Return the scores on the test, as they stand if the best agent is not younger."""
    known, best = (order.run_dir / name for name in ("test.json", "best.safetensors"))
    if not known.exists() or known.stat().st_mtime_ns < best.stat().st_mtime_ns:
        return _test(order)[3]
    found: dict[str, float] = json.loads(known.read_text(encoding="utf-8"))
    return found


def validate(order: Order) -> int:
    """Score the trained agent on a new set of samples; write predictions.csv and .npz."""
    import numpy as np

    from agents.core.runs.checkpoint import write_durably

    agent = order.load_trained()
    task = agent.task
    seed = order.config.seed + 1  # training ended with a test on seed 0
    answers, batch = agent.answers("test", _NUM_TESTED, seed)
    rows = [
        [row.question, row.answer, row.target, "right" if row.correct else "wrong"]
        for row in task.rows(answers, batch)
    ]
    path = order.run_dir / "predictions.csv"
    write_durably(path, _csv([["question", "answer", "target", "right"], *rows]))
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **batch._asdict(), y_hat=answers)
    write_durably(path.with_suffix(".npz"), arrays.getvalue())
    scores = task.score(answers, batch)
    _write_scores(order.run_dir / "validation.json", scores, len(answers), seed)
    whole = len(answers) < _NUM_TESTED  # a split that has no more
    drawn = f"all {len(answers)} test samples" if whole else f"{len(answers):,} new samples"
    print(f"validate: {_words(scores)} ({drawn}, seed {seed}); {path}")
    return 0


def predict(order: Order) -> int:
    """Answer --input, or each line of standard input; a bad line is named and the rest answered."""
    agent = order.load_trained()
    if order.options.input is not None:
        print(agent.predict(order.options.input))
        return 0
    code = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        text = line.decode(sys.stdin.encoding, errors="replace").lstrip("\ufeff").strip()
        if not text:
            continue
        try:
            print(agent.predict(text), flush=True)
        except ConfigError as error:
            warn(f"terrarium: standard input, line {number}: {error}")
            code = error.exit_code
    return code


def inspect(order: Order) -> int:
    """Look into the trained agent: one page, its arrays, and the figures for TensorBoard."""
    agent = order.load_trained()
    given = order.options.views
    views = None if given is None else [view.strip() for view in given.split(",")]
    is_watched = sys.stderr is not None and sys.stderr.isatty()
    report = agent.inspect(views, progress=is_watched)
    if is_watched:
        warn(f"drawing {sum(1 for _ in report.flat())} pictures")
    _keep(report, order.run_dir, "report", agent.state.cursor.step)
    return 0


def compare(a: Order, b: Order) -> int:
    """Compare the trained agents of two runs; the page is kept in the first one's folder."""
    from agents.core.analysis.comparison import compare as compared
    from visualization import render

    first, second = a.load_trained(), b.load_trained()
    report = compared(first, second)
    print(render.text(report["answers"]))
    _keep(report, a.run_dir, "comparison", first.state.cursor.step)
    return 0


def sweep(order: Order) -> int:
    """Learn once for each value of --over; tabulate and draw the losses."""
    from agents.cli import sweep as sweeping
    from agents.core.runs.checkpoint import write_durably
    from agents.core.training.loop import DivergedError
    from visualization import render
    from visualization.report import Report

    over = sweeping.read_over(order.options.over)
    outcomes = []
    all_orders = list(sweeping.orders(order, over, MODES))  # all are checked before any runs
    for values, each in all_orders:
        try:
            outcomes.append(sweeping.Outcome(values, _learn(each), _scores(each), "done"))
        except DivergedError as error:
            warn(f"terrarium: {error}")
            outcomes.append(sweeping.Outcome(values, each.load_newest(), {}, "diverged"))
    table, folder = sweeping.table(outcomes), sweeping.sweep_dir(order, over)
    print(render.text(table))
    write_durably(folder / "sweep.csv", _csv([table.columns, *table.rows]))
    views = {
        "table": table,
        "best_losses": sweeping.best_losses(outcomes, over),
        "losses": sweeping.losses(outcomes),
    }
    title = f"{order.agent.name} on {order.task.name} over {', '.join(over)}"
    _keep(Report(title, views), folder, "sweep", 0)
    return 0 if any(outcome.scores for outcome in outcomes) else DivergedError.exit_code


def find_lr(order: Order) -> int:
    """Raise the learning rate of an untrained agent from step to step; suggest one."""
    from agents.core.analysis.trials import range_test
    from visualization import render
    from visualization.report import Report

    agent = order.make()
    record = range_test(agent)
    print(render.text(record))
    title = f"{agent.name} on {agent.task.name}: which learning rate?"
    _keep(Report(title, {"range_test": record}), order.run_dir, "find-lr", 0)
    return 0


def diagnose(order: Order) -> int:
    """Answer why an agent learns, or does not: of its run, or by a short trial."""
    from agents.core.analysis.diagnosis import diagnosis
    from agents.core.runs.run_folder import RunFolder

    agent = order.load_newest()
    diverged = RunFolder(order.run_dir).state() == "diverged"
    report = diagnosis(agent, progress=warn, diverged=diverged)
    print(report.text())
    _keep(report, order.run_dir, "diagnosis", agent.state.cursor.step)
    return 0


def _keep(report: "Report", folder: Path, name: str, step: int) -> None:
    """Write a page and its arrays into a run's folder, and the figures beneath it as events."""
    from agents.core.runs.history import History
    from agents.core.runs.sinks import Pictured, Started, TensorBoardSink

    make_folder(folder)
    page = report.save(folder / f"{name}.html")
    arrays = report.save_arrays(folder / f"{name}.npz")
    # A run of their own: figures hide those of an earlier look, and none of the training's.
    with contextlib.closing(TensorBoardSink(folder / name)) as events:
        events.take(Started(History([]), step - 1, step))
        for view, record in report.flat():
            events.take(Pictured(step, view, record, report.picture(view)))
    print(f"{page}: open it in a browser; arrays in {arrays}; figures for TensorBoard in {name}/")


@attrs.frozen
class Mode:
    """One thing that can be done with an agent, or with two."""

    summary: str
    call: Callable[..., int]  # takes as many orders as there are runs
    num_runs: int = 1


MODES = {
    "train": Mode("learn, or go on learning (default)", train),
    "validate": Mode("score a trained agent on new samples, save scores and answers", validate),
    "predict": Mode("answer --input or lines on standard input", predict),
    "inspect": Mode("look into a trained agent: report.html, report.npz", inspect),
    "diagnose": Mode("say why an agent learns, or does not, and what to try", diagnose),
    "find-lr": Mode("try learning rates from low to high on an untrained agent", find_lr),
    "sweep": Mode("learn once for each value of --over", sweep),
    "compare": Mode("compare two trained agents: --mode compare RUN_A RUN_B", compare, 2),
}


def run(options: argparse.Namespace) -> int:
    """Do what the options ask; return the exit code."""
    if options.list_agents or options.list_tasks:
        for name, entry in (agents.AGENTS if options.list_agents else tasks.TASKS).items():
            print(f"{name:<24}{_line(entry)}")
        return 0
    _demand_fitting(options)
    if options.runs:
        orders = [order_of_run(options, folder_path(path, "RUN"), MODES) for path in options.runs]
    elif options.mode in _OF_A_RUN and options.agent is None and options.config is None:
        if options.run_dir is None:
            accepted = "a trained agent's folder, or the --agent, --task and --set it was made with"
            raise ConfigError("--run-dir", "", "no run is named", accepted)
        orders = [order_of_run(options, options.run_dir, MODES)]
    else:
        orders = [read_order(options, MODES)]
    _demand_use(orders[0])
    mode = MODES[orders[0].mode]
    if options.print_config:
        print(_config_file(orders[0]))
        return 0
    return mode.call(*orders)


def _demand_fitting(options: argparse.Namespace) -> None:
    """Refuse options that the mode has no use for."""
    mode = options.mode or "train"
    wanted = MODES[mode].num_runs if mode in MODES else 1
    if len(options.runs) != (wanted if wanted > 1 else 0):
        problem = f"--mode {mode} and {len(options.runs)} named folders do not go together"
        accepted = "--mode compare RUN_A RUN_B, or --run-dir for the other modes"
        raise ConfigError("command line", "", problem, accepted)
    if options.runs and options.run_dir is not None:
        problem = "does not go with --mode compare"
        raise ConfigError("--run-dir", "", problem, "the first run's folder takes the comparison")


def _demand_use(order: Order) -> None:
    """Refuse options that the mode, wherever it is named, has no use for."""
    options = order.options
    resume = None if options.resume == "auto" else options.resume
    for name, value, only in (
        ("--views", options.views, ["inspect"]), ("--input", options.input, ["predict"]),
        ("--over", options.over or None, ["sweep"]), ("--resume", resume, ["train", "sweep"]),
    ):  # fmt: skip
        if value is not None and order.mode not in only:
            problem = f"does not go with --mode {order.mode}"
            raise ConfigError(name, "", problem, f"--mode {' or '.join(only)}")


def _config_file(order: Order) -> str:
    named = tasks.settings_of(order.task)
    text = describe(type(order.task), to_values(order.task), indent="  ", only=named)
    head = f"agent: {order.agent.name}\ntask:\n  name: {order.task.name}\n{text}"
    return f"{head}\n{describe(type(order.config), to_values(order.config))}"


def _line(entry: Entry) -> str:
    return f"{entry.summary} (such as {entry.example})" if entry.example else entry.summary


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")  # names of files in another encoding


def _write_scores(path: Path, scores: Mapping[str, float], num: int, seed: int) -> None:
    from agents.core.runs.checkpoint import write_durably

    write_durably(path, json.dumps({**scores, "num_samples": num, "seed": seed}).encode())


def _words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
