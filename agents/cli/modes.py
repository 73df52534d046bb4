"""Modes of the command line, and quick answers (lists, settings) without torch."""

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator

import attrs

import agents
import tasks
from agents.cli import running
from agents.cli.run_spec import (
    RENAMED_MODES,
    RunSpec,
    note_renamed,
    parse_run_spec,
    run_spec_from_folder,
    warn,
)
from agents.cli.sweep_space import for_first_run
from agents.core.config import describe
from agents.core.training.launch import launched_rank
from tasks.core.paths import folder_path
from tasks.core.registry import Entry
from tasks.core.settings import ConfigError, to_values

_SWEEP_OPTIONS = ("trials", "seeds", "sampler", "pruner", "workers", "storage", "heartbeat")
# They need nothing but a run folder.
_MODES_OF_A_RUN = ("evaluate", "predict", "inspect", "live", "diagnose", "export", "calibrate")


def train(spec: RunSpec) -> int:
    """Train in the run folder, then print some answers and the scores on the test split."""
    from agents.core.training import devices
    from agents.core.training.processes import process_group
    from tasks.core.batch import take
    from visualization import render
    from visualization.records import AnswerTable

    with process_group(devices.choose(spec.options.device)) as group:
        agent = running.learn(spec)
        best, answers, batch, scores = running.score_best(spec, agent, group)
    if not group.is_main:
        return 0
    rows = best.task.rows(answers[:12], take(batch, 0, 12))
    print(render.text(AnswerTable("worked answers", rows)))
    print(f"test: {running.format_scores(scores)} ({len(answers):,} withheld samples)")
    return 0


def evaluate(spec: RunSpec) -> int:
    """Evaluate the trained agent on new test samples; write scores, predictions.csv and .npz."""
    import numpy as np

    from agents.core.runs.checkpoint import atomic_write
    from tasks.core.batch import plain_arrays

    agent = spec.load_trained()
    task = agent.task
    seed = spec.config.seed + 1  # the test after training has seed 0
    answers, batch = agent.predict_split("test", running.NUM_TESTED, seed)
    rows = [
        [row.question, row.answer, row.target, "right" if row.correct else "wrong"]
        for row in task.rows(answers, batch)
    ]
    path = spec.run_dir / "predictions.csv"
    atomic_write(path, running.csv_bytes([["question", "answer", "target", "right"], *rows]))
    arrays = io.BytesIO()
    named = {n.removeprefix("batch."): a for n, a in plain_arrays("batch", batch).items()}
    named |= plain_arrays("y_hat", answers)
    np.savez_compressed(arrays, **named)  # type: ignore[arg-type] # a mapping of arrays
    atomic_write(path.with_suffix(".npz"), arrays.getvalue())
    scores = task.score(answers, batch)
    running.write_scores(spec.run_dir / "evaluation.json", scores, len(answers), seed)
    is_whole = len(answers) < running.NUM_TESTED  # the split has no more samples
    samples = f"all {len(answers)} test samples" if is_whole else f"{len(answers):,} new samples"
    print(f"evaluate: {running.format_scores(scores)} ({samples}, seed {seed}); {path}")
    return 0


def predict(spec: RunSpec) -> int:
    """Predict each --input, or each line of standard input; bad lines are reported.

    With --detector these are pages, of which the lines are found and read.
    """
    if spec.options.detector is not None:
        from agents.cli.pages import read_pages

        return read_pages(spec, spec.options.input or (text for _, text in _typed()))
    agent = spec.load_trained()
    if spec.options.input:
        print(*agent.predict(spec.options.input), sep="\n")
        return 0
    code = 0
    for number, text in _typed():
        try:
            print(agent.predict(text), flush=True)
        except ConfigError as error:
            warn(f"terrarium: standard input, line {number}: {error}")
            code = error.exit_code
    return code


def _typed() -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of standard input that has one."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        text = line.decode(sys.stdin.encoding, errors="replace").lstrip("\ufeff").strip()
        if text:
            yield number, text


def inspect(spec: RunSpec) -> int:
    """Inspect the trained agent: write a report, its arrays, and the figures for TensorBoard."""
    from agents.core.inspection.side_by_side import num_processes
    from visualization.renderers import BackgroundRenderer, LazyRenderer, Renderer

    names = spec.options.views
    views = None if names is None else [name.strip() for name in names.split(",")]
    is_watched = sys.stderr is not None and sys.stderr.isatty()
    agent = spec.load_trained()
    processes = num_processes(agent.device, agent.config.threads)
    with contextlib.ExitStack() as stack:
        renderer: Renderer = LazyRenderer()
        if views is None and processes == 1:  # it takes as long to start as a few figures to draw
            renderer = stack.enter_context(BackgroundRenderer())
        report = agent.inspect(views, progress=is_watched, renderer=renderer, processes=processes)
        if is_watched:
            warn(f"writing {sum(1 for _ in report.flat())} figures")
        step = agent.state.cursor.step
        running.save_report(report, spec.run_dir, "report", step, processes)
    return 0


def live(spec: RunSpec) -> int:
    """Serve a page on which one draws, and watches the agent, also as it learns; until Ctrl-C."""
    from agents.cli.live import serve_run

    return serve_run(spec)


def export(spec: RunSpec) -> int:
    """Export the trained agent's model to ONNX, checked against the agent."""
    from agents.core.export import export_onnx

    found = export_onnx(spec.load_trained(), spec.run_dir / "model.onnx")
    print(
        f"{found.path}: on {found.num_checked} batches of several sizes, onnxruntime's outputs "
        f"differ from the agent's by at most {found.difference:.2g}"
    )
    return 0


def calibrate(spec: RunSpec) -> int:
    """Fit the temperature of the trained agent's confidences; keep it in the run's folder."""
    from agents.core.analysis.calibration import calibrate as calibrate_agent
    from agents.core.runs.checkpoint import atomic_write
    from agents.core.runs.run_folder import RunFolder
    from visualization.report import Report

    saved = spec.run_dir / "config.yaml"  # a run specified by its folder has these settings
    with RunFolder.locked(spec.run_dir):
        agent = spec.load_trained()
        diagrams = calibrate_agent(agent)
        line = f"temperature: {agent.config.temperature!r}"
        agent.save(spec.run_dir / "best.safetensors")
        text = saved.read_text(encoding="utf-8")
        text = re.sub(r"^temperature:.*$", line, text, flags=re.MULTILINE)
        atomic_write(saved, text.encode())
    for name, found in diagrams.items():
        print(
            f"{name}: expected calibration error {found.before.ece:.4f} before, "
            f"{found.after.ece:.4f} after (calibrated: up to {found.after.chance:.4f} by chance)"
        )
    print(f"temperature {agent.config.temperature:.3f}, kept in {spec.run_dir}")
    title = f"Calibration of {agent.name} on {agent.task.name}"
    running.save_report(Report(title, dict(diagrams)), spec.run_dir, "calibration",
                 agent.state.cursor.step)  # fmt: skip
    return 0


def compare(a: RunSpec, b: RunSpec) -> int:
    """Compare the trained agents of two runs; write the report into the folder of the first."""
    from agents.core.analysis.comparison import compare as compare_agents
    from visualization import render

    first, second = a.load_trained(), b.load_trained()
    report = compare_agents(first, second)
    print(render.text(report["answers"]))
    running.save_report(report, a.run_dir, "comparison", first.state.cursor.step)
    return 0


def sweep(spec: RunSpec) -> int:
    """Sweep: train once for each combination of --grid, or for values that --search chooses."""
    from agents.cli import sweep as sweeping

    return sweeping.sweep(spec, MODES)


def find_lr(spec: RunSpec) -> int:
    """Learning-rate range test of an untrained agent: raise the rate step by step; suggest one."""
    from agents.core.analysis.trials import range_test
    from visualization import render
    from visualization.report import Report

    agent = spec.make()
    record = range_test(agent)
    print(render.text(record))
    title = f"{agent.name} on {agent.task.name}: which learning rate?"
    running.save_report(Report(title, {"range_test": record}), spec.run_dir, "find-lr", 0)
    return 0


def diagnose(spec: RunSpec) -> int:
    """Diagnose why an agent learns, or does not: from its run, or from a short trial."""
    from agents.core.analysis.diagnosis import diagnose_agent
    from agents.core.runs.run_folder import RunFolder

    agent = spec.load_newest()
    diverged = RunFolder(spec.run_dir).last_status() == "diverged"
    report = diagnose_agent(agent, progress=warn, diverged=diverged)
    print(report.text())
    running.save_report(report, spec.run_dir, "diagnosis", agent.state.cursor.step)
    return 0


@attrs.frozen
class Mode:
    """A mode of the command line."""

    summary: str
    call: Callable[..., int]  # its arguments are `num_runs` specifications
    num_runs: int = 1


MODES = {
    "train": Mode("train, or continue training (default)", train),
    "evaluate": Mode("score a trained agent on new test samples, save scores, answers", evaluate),
    "predict": Mode("answer each --input or line of standard input; pages too", predict),
    "inspect": Mode("inspect a trained agent: report.html, report.npz", inspect),
    "live": Mode("open a page: draw, watch the network, or follow a run that learns", live),
    "export": Mode("export a trained agent to model.onnx, and check the file", export),
    "calibrate": Mode("fit how sure a reader is, and keep the temperature", calibrate),
    "diagnose": Mode("explain why an agent learns, or does not, and what to try", diagnose),
    "find-lr": Mode("learning-rate range test of an untrained agent", find_lr),
    "sweep": Mode("train once for each combination of --grid, or search by --search", sweep),
    "compare": Mode("compare two trained agents: --mode compare RUN_A RUN_B", compare, 2),
}


def run(options: argparse.Namespace) -> int:
    """Run the mode that the options specify; return the exit code."""
    if options.list_agents or options.list_tasks:
        for name, entry in (agents.AGENTS if options.list_agents else tasks.TASKS).items():
            print(f"{name:<24}{_entry_line(entry)}")
        return 0
    _accept_earlier(options)
    _check_runs(options)
    if options.runs:
        specs = [
            run_spec_from_folder(options, folder_path(path, "RUN"), MODES) for path in options.runs
        ]
    elif options.mode in _MODES_OF_A_RUN and options.agent is None and options.config is None:
        if options.run_dir is None:
            accepted = "a trained agent's folder, or the --agent, --task and --set it was made with"
            raise ConfigError("--run-dir", "", "is required", accepted)
        specs = [run_spec_from_folder(options, options.run_dir, MODES)]
    else:
        specs = [parse_run_spec(for_first_run(options), MODES)]
    _check_options(specs[0])
    mode = MODES[specs[0].mode]
    if options.print_config:
        print(config_file(specs[0]))
        return 0
    return mode.call(*specs)


def _accept_earlier(options: argparse.Namespace) -> None:
    """Replace options that have their earlier names by the present ones, with a note."""
    if options.mode in RENAMED_MODES:
        present = RENAMED_MODES[options.mode]
        note_renamed("--mode", options.mode, present)
        options.mode = present
    if options.over:
        note_renamed("command line", "--over", "--grid")
        options.grid, options.over = [*options.grid, *options.over], []


def _check_runs(options: argparse.Namespace) -> None:
    """Check that the mode accepts as many run folders as there are."""
    mode = options.mode or "train"
    num_runs = MODES[mode].num_runs if mode in MODES else 1
    if len(options.runs) != (num_runs if num_runs > 1 else 0):
        problem = f"--mode {mode} cannot be combined with {len(options.runs)} run folders"
        accepted = "--mode compare RUN_A RUN_B, or --run-dir for the other modes"
        raise ConfigError("command line", "", problem, accepted)
    if options.runs and options.run_dir is not None:
        problem = "cannot be combined with --mode compare"
        raise ConfigError("--run-dir", "", problem, "the first run's folder takes the comparison")


def _check_options(spec: RunSpec) -> None:
    """Check that the mode, also one from a file, uses the options."""
    options = spec.options
    resume = None if options.resume == "auto" else options.resume
    for name, value, only in (
        ("--views", options.views, ["inspect"]), ("--input", options.input or None, ["predict"]),
        ("--detector", options.detector, ["predict"]), ("--output", options.output, ["predict"]),
        ("--host", options.host, ["live"]), ("--port", options.port, ["live"]),
        ("--grid", options.grid or None, ["sweep"]),
        ("--search", options.search or None, ["sweep"]),
        *((f"--{name}", getattr(options, name), ["sweep"]) for name in _SWEEP_OPTIONS),
        ("--resume", resume, ["train", "sweep"]),
    ):  # fmt: skip
        if value is not None and spec.mode not in only:
            problem = f"cannot be combined with --mode {spec.mode}"
            raise ConfigError(name, "", problem, f"--mode {' or '.join(only)}")
    if launched_rank() is not None and spec.mode != "train":
        problem = f"cannot be combined with --mode {spec.mode}"
        raise ConfigError("torchrun", "", problem, "--mode train; other modes are one process")
    if options.output is not None and options.detector is None:
        problem = "cannot be combined with no --detector"
        raise ConfigError("--output", "", problem, "--detector, by which pages are read")


def config_file(spec: RunSpec) -> str:
    """Return all settings of a run, as a file for --config."""
    shown = tasks.settings_of(spec.task)
    text = describe(type(spec.task), to_values(spec.task), indent="  ", only=shown)
    head = f"agent: {spec.agent.name}\ntask:\n  name: {spec.task.name}\n{text}"
    return f"{head}\n{describe(type(spec.config), to_values(spec.config))}"


def _entry_line(entry: Entry) -> str:
    return f"{entry.summary} (such as {entry.example})" if entry.example else entry.summary
