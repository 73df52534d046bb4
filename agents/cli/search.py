"""Hyperparameter search with optuna: random or TPE, shared by processes through one folder."""

import argparse
import hashlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from agents.cli import running
from agents.cli.run_spec import RunSpec, config_of, parse_run_spec, warn
from agents.cli.sweep import first_names, sweep_dir
from agents.core.sweeps.space import Space, parse_space
from tasks.core.settings import ConfigError, SourcedValue, fields

if TYPE_CHECKING:
    import optuna

    from agents.core.sweeps.results import Result
    from agents.core.sweeps.study import StudyStore

_POLL = 0.3  # seconds between looks at trials of other processes


@attrs.frozen
class Search:
    """Search of a space: what its trials have in common."""

    base: RunSpec
    modes: Collection[str]
    space: Space
    num_trials: int
    seeds: Sequence[int]  # of each trial; none: the one that is specified

    @property
    def folder(self) -> Path:
        """The folder of the sweep."""
        return sweep_dir(self.base, self.space)

    def spec(self, values: Mapping[str, Any]) -> RunSpec:
        """Return the specification of a run: the same values have the same folder."""
        settings = {name: SourcedValue(value, f"--search {name}") for name, value in values.items()}
        first = first_names(self.base)
        word = ",".join(f"{first.get(name, name)}={value}" for name, value in values.items())
        folder = self.folder / re.sub(r"[^\w.,=+-]", "_", word)
        changes = {"run_dir": folder, "config": config_of(self.base.options)}
        options = argparse.Namespace(**{**vars(self.base.options), **changes})
        return parse_run_spec(options, self.modes, settings)

    def check(self) -> None:
        """Check each value of a choice and both ends of each range; a bad one is a ConfigError."""
        start = {name: choice.corners[0] for name, choice in self.space.items()}
        for name, choice in self.space.items():
            for corner in choice.corners:
                self.spec({**start, name: corner})

    def is_integer(self, name: str, values: Mapping[str, Any]) -> bool:
        """Tell whether a setting takes integers alone."""
        owner = self.base.task if name.startswith("task.") else self.base.config
        field = fields(type(owner)).get(name.removeprefix("task."))
        return field is not None and field.type in (int, int | None)

    def seeded(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the values of each run of a trial, one for each seed."""
        return [{**values, "seed": seed} for seed in self.seeds] or [dict(values)]

    @property
    def name(self) -> str:
        """Name of the study: the same for commands that share their trials."""
        base = self.base
        parts = [base.agent.name, base.task.name, base.config.digest(base.task), self.seeds]
        text = repr([*parts, base.config.seed, sorted(self.space.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def parse_search(base: RunSpec, modes: Collection[str]) -> Search:
    """Parse the options of a search; a bad one is a ConfigError, before anything runs."""
    options = base.options
    if options.grid:
        problem = "cannot be combined with --search"
        raise ConfigError("--grid", "", problem, "name=value,value,… as one more --search")
    if options.trials is None:
        raise ConfigError("--trials", "", "is required by --search", "a number of trials ≥ 1")
    if options.trials < 1:
        raise ConfigError("--trials", "", f"{options.trials} is out of range", "≥ 1")
    space = parse_space(options.search)
    seeds: list[int] = []
    if unsearchable := [name for name in space if name in ("agent", "task", "seed")]:
        problem = f"{unsearchable[0]!r} cannot be searched"
        raise ConfigError("--search", "", problem, "settings; --seeds for seeds, --grid for all")
    found = Search(base, modes, space, options.trials, seeds)
    found.check()
    return found


def run_search(search: Search) -> list[tuple[dict[str, Any], RunSpec, "Result"]]:
    """Run trials until --trials of them have ended, here or in other processes; return all runs."""
    from agents.core.sweeps.study import StudySettings, StudyStore, check_names, suggest

    options = search.base.options
    sampler, pruner = options.sampler or "tpe", "none"
    check_names(sampler, pruner)
    direction, seed = search.base.task.monitor[1], search.base.config.seed
    store = StudyStore(
        StudySettings(
            folder=search.folder,
            name=search.name,
            direction=direction,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
        )
    )
    while True:
        with store.claim(search.num_trials) as trial:
            if trial is not None:
                values = suggest(trial, search.space, lambda *_: True, search.is_integer)
                trial.set_user_attr("values", values)
                _run_trial(search, store, trial, values)
                continue
        if not store.num_unfinished():
            return _results(search, store)
        time.sleep(_POLL)  # others run the last trials; if one dies, its trial is continued here


def _run_trial(
    search: Search, store: "StudyStore", trial: "optuna.Trial", values: Mapping[str, Any]
) -> None:
    """Run a trial with each seed, and tell its mean score; None if a run was pruned or diverged."""
    from agents.core.training.loop import DivergedError
    from agents.core.training.trainer import PrunedError

    scores: list[float] = []
    reported = set(store.reported_steps(trial))

    def prune(step: int, score: float) -> bool:
        if step not in reported:  # a run that continues may evaluate a step once more
            reported.add(step)
            trial.report(score, step)
        return trial.should_prune()

    for number, each in enumerate(search.seeded(values)):
        try:
            score = _run(search.spec(each), prune if number == 0 else None)
        except (DivergedError, PrunedError) as error:
            warn(f"terrarium: {error}")
            store.tell(trial, None)
            return
        scores.append(score)
    store.tell(trial, sum(scores) / len(scores))


def _run(spec: RunSpec, prune: Any) -> float:
    """Run once no other process uses the folder; return the best validation score."""
    from agents.core.runs.run_folder import FolderInUseError

    while True:
        try:
            agent = running.learn(spec, prune)
            break
        except FolderInUseError:  # another trial with the same values
            time.sleep(_POLL)
    running.scores_of_run(spec)
    score = agent.state.best.score
    assert score is not None
    return score


def _results(search: Search, store: "StudyStore") -> list[tuple[dict[str, Any], RunSpec, "Result"]]:
    """Return values, specification and result of each run, those with equal values once."""
    from agents.core.sweeps.results import read_result

    runs: dict[Path, tuple[dict[str, Any], RunSpec, Result]] = {}
    for trial in store.trials():
        for values in search.seeded(trial.user_attrs.get("values", {})):
            spec = search.spec(values)
            result = read_result(values, spec.run_dir, search.base.task.monitor)
            runs.setdefault(spec.run_dir, (values, spec, result))
    return list(runs.values())
