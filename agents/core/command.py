"""What the command line can do: quick answers without torch, and the modes."""

import argparse
import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

import agents
import tasks
from agents.core.config import (
    AgentConfig,
    config_class,
    describe,
    flat_settings,
    read_file,
    read_option,
    read_value,
)
from tasks.core.registry import Entry, Found, find
from tasks.core.settings import ConfigError, Given, build, nearest, to_values

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from tasks.core.task import Task
    from visualization.report import Report

_OF_A_RUN = ("validate", "predict", "inspect")  # modes that need a trained agent
_OUTSIDE = ("agent", "task", "mode")  # names in a config file that are no settings of the agent


@attrs.frozen
class Order:
    """What a person asked for, checked as far as that goes without torch."""

    mode: str
    agent: Found
    task: "Task"
    config: AgentConfig
    settings: Mapping[str, Given]  # of the agent, as they were given
    options: argparse.Namespace

    @property
    def run_dir(self) -> Path:
        """The run's folder: the given one, or one that its settings name."""
        if self.options.run_dir is not None:
            return Path(self.options.run_dir)
        task = tasks.settings_of(self.task)
        name = f"{self.config.digest(task)}-s{self.config.seed}"
        return Path("runs") / self.task.name / self.agent.name / name

    def make(self) -> "Agent":
        """Make the agent, untrained."""
        return agents.from_given(
            self.agent.name, self.task, self.settings, self.options.device, "--agent"
        )

    def load_trained(self) -> "Agent":
        """Load the best agent of the run's folder."""
        from agents.core.run_folder import best_of

        if not (self.run_dir / "best.safetensors").exists():
            problem = f"{self.run_dir / 'best.safetensors'} does not exist: nothing was trained yet"
            accepted = "the --agent, --task and --set of an earlier --mode train, or its --run-dir"
            raise ConfigError("--run-dir", "", problem, accepted)
        checkpoint = best_of(self.run_dir, _warn)
        agent = agents.from_checkpoint(checkpoint, self.options.device, str(self.run_dir))
        self._demand_what_was_given(agent)
        return agent

    def _demand_what_was_given(self, agent: "Agent") -> None:
        """Refuse a run of another agent or task, or of other settings than those that are named."""
        found = flat_settings(agent.identity())
        wanted = {name: (item.value, item.place) for name, item in self.settings.items()}
        wanted |= {"agent": (self.agent.name, "--agent"), "task": (self.task.name, "--task")}
        wanted.pop("seed", None)  # names the samples here
        for name, (value, place) in wanted.items():
            if found[name] != value:
                problem = f"the run in {self.run_dir} has {found[name]!r}, not {value!r}"
                raise ConfigError(place, name, problem, "the run's own settings, or none")


def train(order: Order) -> int:
    """Learn in the run's folder, then print worked sums and the scores on the test split."""
    from visualization import render

    options, run_dir = order.options, order.run_dir
    agent = order.make()
    print(f"run folder: {run_dir}", file=sys.stderr)
    agent.learn(run_dir=run_dir, resume=options.resume, progress=True)
    best = order.load_trained()
    answers, batch = best.answers("test", 10_000)
    scores = best.task.score(answers, batch)
    _write_scores(run_dir / "test.json", scores, len(answers), seed=0)
    print(render.text(best.answer_table(answers, batch, 12)))
    print(f"test: {_words(scores)} ({len(answers):,} withheld samples)")
    return 0


def validate(order: Order) -> int:
    """Score the trained agent on a new set of samples; write predictions.csv."""
    from agents.core.checkpoint import write_durably

    agent = order.load_trained()
    seed = order.config.seed + 1  # training ended with a test on seed 0
    answers, batch = agent.answers("test", 10_000, seed)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["question", "answer", "target", "right"])
    writer.writerows(
        [q, a, t, "right" if right else "wrong"]
        for q, a, t, right in agent.task.rows(answers, batch)
    )
    path = order.run_dir / "predictions.csv"
    write_durably(path, table.getvalue().encode())
    scores = agent.task.score(answers, batch)
    _write_scores(order.run_dir / "validation.json", scores, len(answers), seed)
    print(f"validate: {_words(scores)} ({len(answers):,} new samples, seed {seed}); {path}")
    return 0


def predict(order: Order) -> int:
    """Answer --input, or each line of standard input; a bad line is named and the rest answered."""
    agent = order.load_trained()
    if order.options.input is not None:
        print(agent.predict(order.options.input))
        return 0
    code = 0
    for number, line in enumerate(sys.stdin.buffer, start=1):
        text = line.decode(errors="replace").strip()
        if not text:
            continue
        try:
            print(agent.predict(text), flush=True)
        except ConfigError as error:
            _warn(f"terrarium: standard input, line {number}: {error}")
            code = error.exit_code
    return code


def inspect(order: Order) -> int:
    """Look into the trained agent: one page, its arrays, and the figures for TensorBoard."""
    agent = order.load_trained()
    given = order.options.views
    views = None if given is None else [view.strip() for view in given.split(",")]
    _keep(agent.inspect(views), order.run_dir, "report", agent.state.cursor.step)
    return 0


def compare(a: Order, b: Order) -> int:
    """Compare the trained agents of two runs; the page is kept in the first one's folder."""
    from agents.core.comparing import compare as compared
    from visualization import render

    first, second = a.load_trained(), b.load_trained()
    report = compared(first, second)
    print(render.text(report["answers"]))
    _keep(report, a.run_dir, "comparison", first.state.cursor.step)
    return 0


def _keep(report: "Report", folder: Path, name: str, step: int) -> None:
    """Write a page and its arrays into a run's folder, and the figures beneath it as events."""
    from agents.core.history import History
    from agents.core.logs import Pictured, Started, TensorBoardSink

    page = report.save(folder / f"{name}.html")
    arrays = report.save_arrays(folder / f"{name}.npz")
    # A run of their own: figures hide those of an earlier look, and none of the training's.
    with contextlib.closing(TensorBoardSink(folder / name)) as events:
        events.take(Started(History([]), step - 1, step))
        for view, record in report.flat():
            events.take(Pictured(step, view, record))
    print(f"{page}: open it in a browser; arrays in {arrays}; figures for TensorBoard in {name}/")


@attrs.frozen
class Mode:
    """One thing that can be done with an agent, or with two."""

    line: str
    call: Callable[..., int]  # takes as many orders as there are runs
    num_runs: int = 1


MODES = {
    "train": Mode("learn, or go on learning (default)", train),
    "validate": Mode("score a trained agent on new samples, save scores and answers", validate),
    "predict": Mode("answer --input or lines on standard input", predict),
    "inspect": Mode("look into a trained agent: report.html, report.npz", inspect),
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
        orders = [_order_of_run(options, Path(path)) for path in options.runs]
    elif options.mode in _OF_A_RUN and options.agent is None and options.config is None:
        if options.run_dir is None:
            accepted = "a trained agent's folder, or the --agent, --task and --set it was made with"
            raise ConfigError("--run-dir", "", "no run is named", accepted)
        orders = [_order_of_run(options, options.run_dir)]
    else:
        orders = [read_order(options)]
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
    for name, value, only in (
        ("--views", options.views, "inspect"), ("--input", options.input, "predict"),
    ):  # fmt: skip
        if value is not None and mode != only and options.config is None:
            raise ConfigError(name, "", f"does not go with --mode {mode}", f"--mode {only}")


def _order_of_run(options: argparse.Namespace, folder: Path) -> Order:
    """Return the order for a run that is named by its folder alone."""
    if not (folder / "config.yaml").exists():
        problem = f"{folder} is no run's folder: it has no config.yaml"
        raise ConfigError("command line", "", problem, "the folder of a trained agent")
    return read_order(argparse.Namespace(**{**vars(options), "run_dir": folder}))


def read_order(options: argparse.Namespace) -> Order:
    """Check all names and settings."""
    given = _gather(options)
    chosen = given.pop("mode", Given("train", "--mode"))
    if str(chosen.value) not in MODES:
        problem, hint = f"{chosen.value!r} is not known", nearest(chosen.value, MODES)
        raise ConfigError(chosen.place, "mode", problem, ", ".join(MODES), hint)
    names = {kind: _name(kind, given) for kind in ("agent", "task")}
    agent = find("agent", names["agent"].value, agents.AGENTS, names["agent"].place)
    of_task = {k.removeprefix("task."): v for k, v in given.items() if k.startswith("task.")}
    settings = {k: v for k, v in given.items() if not k.startswith("task.")}
    task = tasks.from_given(names["task"].value, of_task, names["task"].place)
    config = build(config_class(agent), settings)
    return Order(str(chosen.value), agent, task, config, settings, options)


def _gather(options: argparse.Namespace) -> dict[str, Given]:
    """Return the settings of a file, and of options, which win over it.

    A run folder that is named alone stands for the config.yaml in it.
    """
    if options.resume not in ("auto", "never") and not Path(options.resume).exists():
        problem = f"{options.resume} does not exist"
        raise ConfigError("--resume", "", problem, "auto, never, or a checkpoint file")
    path = options.config
    if path is None and options.agent is None and options.task is None and options.run_dir:
        saved = options.run_dir / "config.yaml"
        path = saved if saved.exists() else None
    given = read_file(path) if path else {}
    if "task.name" in given:
        given["task"] = given.pop("task.name")
    given.update(read_option(text) for text in options.set)
    if options.seed is not None:
        given["seed"] = Given(read_value(options.seed), "--seed")
    for name in _OUTSIDE:
        if getattr(options, name) is not None:
            given[name] = Given(getattr(options, name), f"--{name}")
    return given


def _name(kind: str, given: dict[str, Given]) -> Given:
    if kind in given:
        return given.pop(kind)
    known = ", ".join(agents.AGENTS if kind == "agent" else tasks.TASKS)
    raise ConfigError(f"--{kind}", "", f"no {kind} is named", known)


def _config_file(order: Order) -> str:
    named = tasks.settings_of(order.task)
    text = describe(type(order.task), to_values(order.task), indent="  ", only=named)
    head = f"agent: {order.agent.name}\ntask:\n  name: {order.task.name}\n{text}"
    return f"{head}\n{describe(type(order.config), to_values(order.config))}"


def _line(entry: Entry) -> str:
    return f"{entry.line} (such as {entry.example})" if entry.example else entry.line


def _warn(message: str) -> None:
    print(message, file=sys.stderr)


def _write_scores(path: Path, scores: Mapping[str, float], num: int, seed: int) -> None:
    from agents.core.checkpoint import write_durably

    write_durably(path, json.dumps({**scores, "num_samples": num, "seed": seed}).encode())


def _words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
