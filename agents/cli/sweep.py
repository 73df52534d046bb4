"""Sweeps: one run for each combination of settings, or for values that a search chooses."""

import argparse
import contextlib
import functools
import hashlib
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import attrs
import torch

from agents.cli import running, streams, sweep_report
from agents.cli.run_spec import RunSpec, parse_run_spec, warn
from agents.cli.sweep_space import (
    applies,
    check_space,
    fits_task,
    fitting,
    parse_options,
    run_spec,
    run_specs,
    setting_type,
    sweep_dir,
)
from agents.core.runs.run_folder import FolderInUseError, RunFolder
from agents.core.sweeps.results import Result, describe, read_result
from agents.core.sweeps.space import Space, parse_grid
from agents.core.training.signals import handling
from agents.core.training.step_record import DivergedError
from agents.core.training.trainer import PrunedError
from tasks.core.memory import is_out_of_memory
from tasks.core.settings import ConfigError, TerrariumError

if TYPE_CHECKING:
    import optuna

    from agents.core.sweeps.study import StudyStore  # of optuna, which a grid does not need

__all__ = ["parse_grid", "run_specs", "sweep", "sweep_dir"]

T = TypeVar("T")
POLL = 0.5  # seconds between looks at what other workers do


@attrs.frozen(kw_only=True)
class Plan:
    """What a sweep does: its runs, or what a search chooses from."""

    base: RunSpec
    modes: Collection[str]
    runs: Sequence[tuple[dict[str, Any], RunSpec]]  # of a grid
    grid: Collection[str]  # names of its settings
    space: Space  # of a search
    seeds: Sequence[int]
    num_trials: int
    num_workers: int
    diverged: Mapping[Path, int]  # runs of a grid that had diverged before: see `_diverged`

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return sweep_dir(self.base, self.space or self.grid)

    @property
    def monitor(self) -> tuple[str, str]:
        """Name of the score, and whether more or less of it is better."""
        return self.base.task.monitor


def sweep(base: RunSpec, modes: Collection[str]) -> int:
    """Run all that is not done yet, by one or several workers; then write tables and figures."""
    plan = plan_of(base, modes)
    with handling([signal.SIGTERM], _end), _other_workers(plan) as others:
        _work(plan, progress=plan.num_workers == 1)
        _wait_for(others)
    results = results_of(plan)
    if not results:
        problem = "no trial could run; the messages above say why"
        raise ConfigError("--search", "", problem, "other values, or a smaller range")
    return sweep_report.report(base, plan.folder, results, is_grid=not plan.space)


def results_of(plan: Plan) -> list[Result]:
    """Return the results of all runs that a sweep has by now, without those that are impossible."""
    runs = plan.runs
    if plan.space:
        trials = _store(plan).trials()
        values = [
            trial.user_attrs["values"]
            for trial in trials
            if "values" in trial.user_attrs and "impossible" not in trial.user_attrs
        ]
        different = {repr(each): each for chosen in values for each in _with_seeds(plan, chosen)}
        runs = [(each, _spec(plan, each)) for each in different.values()]
    return [_result(each, spec) for each, spec in runs]


def plan_of(base: RunSpec, modes: Collection[str]) -> Plan:
    """Return what a sweep does; all settings are checked before anything runs."""
    options = base.options
    grid, space, seeds = parse_options(options)
    for name in ("trials", "workers", "heartbeat"):
        _check_positive(f"--{name}", getattr(options, name))
    if not space:
        for name in ("trials", "sampler", "pruner", "storage", "heartbeat"):
            if getattr(options, name) is not None:
                problem = "cannot be combined with --grid"
                raise ConfigError(f"--{name}", "", problem, f"--{name} with --search")
    if options.resume != "auto" and (space or (options.workers or 1) > 1):
        problem = f"{options.resume} cannot be combined with --search or --workers"
        raise ConfigError("--resume", "", problem, "auto; another --run-dir starts a new sweep")
    runs = list(run_specs(base, grid, modes)) if grid else []
    if {"agent", "task"} & grid.keys():
        runs = fitting(runs)
    if space:
        _check_search(base, space, modes)
    return Plan(
        base=base, modes=modes, runs=runs, grid=tuple(grid), space=space, seeds=seeds,
        num_trials=options.trials or 20, num_workers=options.workers or 1,
        diverged=_diverged(spec.run_dir for _, spec in runs),
    )  # fmt: skip


def _check_search(base: RunSpec, space: Space, modes: Collection[str]) -> None:
    from agents.core.sweeps import study

    study.check_names(base.options.sampler or "tpe", base.options.pruner or "median")
    check_space(base, space, modes)
    if "task" in space:
        problem = "scores of different tasks cannot be compared"
        raise ConfigError("--search", "task", problem, "--grid task=…, or one search for each task")


def _check_positive(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigError(option, "", f"{value} is out of range", "an integer ≥ 1")


def _work(plan: Plan, progress: bool) -> None:
    """Do what is left of a sweep, beside other workers."""
    if plan.num_workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // plan.num_workers))
    if plan.space:
        _search(plan, progress)
    else:
        _run_grid(plan, progress)


def _run_grid(plan: Plan, progress: bool) -> None:
    """Run each that is not done; those that other processes run, when these have ended.

    A run that has diverged since the sweep began is not tried again.

    Raises:
        ConfigError: none can run, as agent or task does not accept the values.
    """
    left, errors = [spec for _, spec in plan.runs], list[ConfigError]()
    while left:
        in_use = []
        for spec in left:
            if _diverged([spec.run_dir]).items() - plan.diverged.items():
                continue
            try:
                _run(spec, progress)
            except FolderInUseError:
                in_use.append(spec)
            except ConfigError as error:
                warn(f"terrarium: {spec.run_dir.name}: {error}: left out")
                errors.append(error)
        if len(in_use) == len(left):
            time.sleep(POLL)
        left = in_use
    if errors and len(errors) == len(plan.runs):
        raise errors[0]


def _diverged(folders: Iterable[Path]) -> dict[Path, int]:
    """Return the folders of runs that have diverged, with the times of their status in ns."""
    return {
        folder: (folder / "status.json").stat().st_mtime_ns
        for folder in folders
        if RunFolder(folder).last_status() == "diverged"
    }


def _run(spec: RunSpec, progress: bool, prune: Any = None) -> str:
    """Train and test in a run folder; return how that ended: done, diverged or pruned."""
    try:
        running.learn(spec, progress, prune)
    except DivergedError as error:
        warn(f"terrarium: {error}")
        return "diverged"
    except PrunedError:
        return "pruned"
    _when_free(lambda: _score(spec))
    return "done"


def _score(spec: RunSpec) -> None:
    """Score the test split, unless another worker did; others wait for it at the folder's lock."""
    with RunFolder.locked(spec.run_dir):
        running.scores_of_run(spec)


def _when_free(act: Callable[[], T]) -> T:
    """Do what needs a run folder that another process may have; if so, wait for that process."""
    while True:
        try:
            return act()
        except FolderInUseError:
            time.sleep(POLL)


def _result(values: Mapping[str, Any], spec: RunSpec) -> Result:
    return read_result(values, spec.run_dir, spec.task.monitor)


def _search(plan: Plan, progress: bool) -> None:
    """Run trials until there are enough, and none is left behind by a dead worker."""
    store = _store(plan)
    while True:
        with store.claim(plan.num_trials) as trial:
            if trial is not None:
                _run_trial(plan, store, trial, progress)
                continue
        if not store.num_unfinished():
            return
        time.sleep(POLL)


def _store(plan: Plan) -> "StudyStore":
    from agents.core.sweeps.study import StudySettings, StudyStore

    options = plan.base.options
    return StudyStore(
        StudySettings(
            folder=plan.folder, name=_study_name(plan), direction=plan.monitor[1],
            sampler=options.sampler or "tpe", pruner=options.pruner or "median",
            storage=options.storage, heartbeat=options.heartbeat or 60,
            seed=plan.base.config.seed,
        )
    )  # fmt: skip


def _run_trial(plan: Plan, store: "StudyStore", trial: "optuna.Trial", progress: bool) -> None:
    """Run a trial with each seed; the scores with the first decide whether it is pruned."""
    from agents.core.sweeps.study import suggest

    values = suggest(
        trial, plan.space, lambda name, chosen: applies(plan.base, name, chosen),
        lambda name, chosen: float not in _types(setting_type(plan.base, name, chosen)),
    )  # fmt: skip
    trial.set_user_attr("values", values)

    def prune(step: int, score: float) -> bool:
        return store.should_prune(trial, step, score)

    try:
        status, score = _run_seeds(plan, values, progress, prune)
    except ConfigError as error:
        trial.set_user_attr("impossible", str(error))
        status, score = f"failed: {error}", None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        status, score = f"failed, out of memory: {str(error).partition(chr(10))[0]}", None
    store.tell(trial, score)
    said = status if score is None else f"{plan.monitor[0]} {score:.4g}"
    warn(f"trial {trial.number}: {describe(values)}: {said}")


def _run_seeds(
    plan: Plan, values: Mapping[str, Any], progress: bool, prune: Any
) -> tuple[str, float | None]:
    """Run these values with each seed; return how that ended, and the mean score if all are done.

    Raises:
        ConfigError: agent or task does not accept the values together.
    """
    scores = []
    for number, each in enumerate(_with_seeds(plan, values)):
        spec = _spec(plan, each)
        if not fits_task(spec):
            return f"{spec.agent.name} cannot learn {spec.task.name}", None
        run = functools.partial(_run, spec, progress, None if number else prune)
        status = _when_free(run)  # another trial may have the same settings
        if status != "done":
            return status, None
        scores.append(_result(each, spec).score)
    return "done", sum(scores) / len(scores)


def _spec(plan: Plan, values: Mapping[str, Any]) -> RunSpec:
    return run_spec(plan.base, values, plan.space, plan.modes, "--search")


def _with_seeds(plan: Plan, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**values, "seed": seed} for seed in plan.seeds] or [dict(values)]


def _types(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) or (kind,)


def _study_name(plan: Plan) -> str:
    """Return a name that only searches with the same space, seeds and other settings have."""
    base, options = plan.base, plan.base.options
    place = str(plan.folder.resolve()) if options.storage else ""  # a database has several sweeps
    own = [base.agent.name, base.task.name, base.config.digest(base.task)]
    chosen = [repr(sorted(plan.space.items())), list(plan.seeds), place, *own]
    return "sweep-" + hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _other_workers(plan: Plan) -> Iterator[list[BaseProcess]]:
    """Start the other workers for a `with` block; one that ends by an exception ends them.

    SIGINT is ignored as they start, so that Ctrl-C in a terminal, which all processes get, does not
    end them in the middle of an import; then SIGTERM ends them after their step.
    """
    context = multiprocessing.get_context("spawn")
    diverged = dict(plan.diverged)
    options = argparse.Namespace(**{**vars(plan.base.options), "mode": "sweep"})
    others: list[BaseProcess] = [
        context.Process(target=_other_worker, args=(options, tuple(plan.modes), diverged))
        for _ in range(plan.num_workers - 1)
    ]
    with handling([signal.SIGINT], signal.SIG_IGN):
        for process in others:
            process.start()
    try:
        yield others
    except BaseException:
        for process in others:
            process.terminate()
        raise
    finally:
        for process in others:
            process.join()


def _wait_for(others: Sequence[BaseProcess]) -> None:
    """Wait for the other workers; what one left behind that was killed is done by now."""
    for process in others:
        process.join()
        if process.exitcode:
            warn(f"terrarium: a worker ended with exit code {process.exitcode}")


def _other_worker(
    options: argparse.Namespace, modes: Collection[str], diverged: Mapping[Path, int]
) -> None:
    """Work on a sweep in a process of its own; results are those of the first process."""
    streams.open_streams()
    try:
        plan = plan_of(parse_run_spec(options, modes), modes)
        _work(attrs.evolve(plan, diverged=diverged), progress=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except TerrariumError as error:
        sys.exit(streams.end(str(error), error.exit_code))


def _end(signum: int, _frame: FrameType | None) -> None:
    """End this process by SystemExit, so that it ends its workers."""
    raise SystemExit(128 + signum)
