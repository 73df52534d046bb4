"""Runs of a sweep: specification and folder of each, also over agents and tasks."""

import argparse
import functools
import hashlib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import agents
import tasks
from agents.cli.run_spec import RunSpec, config_of, parse_run_spec, run_spec_from_folder, warn
from agents.core.config import read_option
from agents.core.sweeps.space import Choices, Space, parse_grid, parse_seeds, parse_space
from tasks.core.registry import find
from tasks.core.settings import ConfigError, SourcedValue, fields, present_values, to_values

_KINDS = ("agent", "task")
_LONGEST = 180  # letters of a folder's name; file systems allow 255 bytes


def parse_options(options: argparse.Namespace) -> tuple[dict[str, list[Any]], Space, list[int]]:
    """Return grid, space and seeds of a sweep's options; one of the first two is empty.

    Raises:
        ConfigError: a bad one, neither --grid nor --search, or both.
    """
    grid, space = parse_grid(options.grid), parse_space(options.search)
    seeds = [] if options.seeds is None else parse_seeds(options.seeds)
    form = "--grid name=value,value,… or --search name=low..high"
    if bool(grid) == bool(space):
        problem = "cannot be combined with --search" if grid else "is required by --mode sweep"
        raise ConfigError("--grid", "", problem, form)
    if seeds and "seed" in (grid or space):
        raise ConfigError("--seeds", "", "seed is swept already", "--seeds, or --grid seed=…")
    if "seed" in space:
        raise ConfigError("--search", "seed", "is not searched", "--seeds 0,1,2")
    if grid and seeds:
        grid["seed"] = list(seeds)
    return grid, space, seeds


def for_first_run(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options of the first run, where a sweep goes over agents or tasks."""
    swept = _swept_names(options)
    if not swept:
        return options
    for kind in swept:
        if getattr(options, kind) is not None:
            problem = f"cannot be combined with --grid {kind}=…"
            raise ConfigError(f"--{kind}", "", problem, "one of both")
    return _for_names(options, {kind: names[0] for kind, names in swept.items()})


def run_specs(
    base: RunSpec, grid: Mapping[str, Sequence[Any]], modes: Collection[str]
) -> Iterator[tuple[dict[str, Any], RunSpec]]:
    """Yield values and specification of each run, in a folder of its own within the sweep's.

    A value of a setting that the run's agent or task does not have is left out, and a run whose
    settings are those of one before, such as `learning_rate=1.0` after `learning_rate=1`.
    """
    seen = set()
    for combination in itertools.product(*grid.values()):
        values = applicable(base, dict(zip(grid, combination, strict=True)))
        spec = run_spec(base, values, grid, modes, "--grid")
        if (own := identity(spec, grid)) not in seen:
            seen.add(own)
            yield values, spec


def run_spec(
    base: RunSpec, values: Mapping[str, Any], names: Collection[str], modes: Collection[str],
    place: str,
) -> RunSpec:  # fmt: skip
    """Return the specification of the run with these values of the swept settings.

    Its folder is within the sweep's: one named by the values, or that of an earlier run there with
    the same settings, the swept ones among them even if they are in no digest, such as `threads`.
    """
    settings = {name: SourcedValue(value, f"{place} {name}") for name, value in values.items()}
    own = {kind: str(values[kind]) for kind in _KINDS if kind in values}
    options = _for_names(base.options, own) if own else base.options
    root = sweep_dir(base, names)

    def spec(folder: Path) -> RunSpec:
        changes = {"run_dir": folder, "config": config_of(options), "agent": options.agent}
        changed = argparse.Namespace(**{**vars(options), **changes})
        return parse_run_spec(changed, modes, settings)

    folder = root / _folder_name(base, values)
    if folder.exists() or not root.exists():
        return spec(folder)
    known = _known_runs(root, _folders(root), tuple(modes), tuple(names))
    return spec(known.get(identity(spec(folder), names), folder))


def sweep_dir(base: RunSpec, names: Collection[str]) -> Path:
    """Return the folder of a sweep: `--run-dir`, or one beside the runs of the same settings."""
    if base.options.run_dir is not None:
        return Path(base.options.run_dir)
    first = _first_names(base)
    word = "-".join(first.get(name, name) for name in names)
    return base.run_dir.with_name(f"sweep-{word}-{base.run_dir.name}")


def applicable(base: RunSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of settings that the agent and task among them, or of `base`, have.

    A setting that no agent or task of the sweep has is kept, so that it is an error.
    """
    return {name: value for name, value in values.items() if applies(base, name, values)}


def applies(base: RunSpec, name: str, values: Mapping[str, Any]) -> bool:
    """Tell whether a setting exists for the agent and task among the values, or for none."""
    own = {kind: [str(values.get(kind, getattr(base, kind).name))] for kind in _KINDS}
    swept = {**own, **_swept_names(base.options)}
    return name in _KINDS or _exists(name, own) or not _exists(name, swept)


def setting_type(base: RunSpec, name: str, values: Mapping[str, Any]) -> Any:
    """Return the annotated type of a setting of the agent or task among the values."""
    names = {kind: str(values.get(kind, getattr(base, kind).name)) for kind in _KINDS}
    kind, bare = ("task", name[5:]) if name.startswith("task.") else ("agent", name)
    own = fields(_settings_class(kind, names[kind]))
    field = own.get(bare) or next(f for f in own.values() if bare in f.metadata["renamed_from"])
    return field.type


def check_space(base: RunSpec, space: Space, modes: Collection[str]) -> None:
    """Check every choice, and both ends of each range, before anything runs: else ConfigError."""
    kinds = [
        [(kind, value) for value in choice.values]
        for kind in _KINDS
        if isinstance(choice := space.get(kind), Choices)
    ]
    for chosen in itertools.product(*kinds):
        for name, choice in space.items():
            for value in choice.corners:
                values = applicable(base, {**_first(space), **dict(chosen), name: value})
                run_spec(base, values, space, modes, "--search")


def fitting(
    runs: Sequence[tuple[dict[str, Any], RunSpec]],
) -> list[tuple[dict[str, Any], RunSpec]]:
    """Return the runs whose agent can learn their task; of the others there is a warning."""
    fits = [fits_task(spec) for _, spec in runs]
    others = {(s.agent.name, s.task.name) for (_, s), ok in zip(runs, fits, strict=True) if not ok}
    for agent, task in sorted(others):
        warn(f"terrarium: {agent} cannot learn {task}: left out")
    if not any(fits):
        raise ConfigError("--mode sweep", "agent", "no agent can learn its task", "others")
    return [run for run, ok in zip(runs, fits, strict=True) if ok]


def fits_task(spec: RunSpec) -> bool:
    """Tell whether the agent of a run can learn its task."""
    return isinstance(spec.task.spec, spec.agent.load().spec_type)


def _first(space: Space) -> dict[str, Any]:
    return {name: choice.corners[0] for name, choice in space.items()}


def _swept_names(options: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """Return the names of the agents and tasks that a sweep goes over."""
    return _names_in(tuple(options.grid), tuple(options.search))


@functools.cache  # asked for each setting of each run
def _names_in(grid: tuple[str, ...], search: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    searched = {name: choice.corners for name, choice in parse_space(search).items()}
    swept: Mapping[str, Sequence[Any]] = {**parse_grid(grid), **searched}
    return {kind: [str(value) for value in swept[kind]] for kind in _KINDS if kind in swept}


def _for_names(options: argparse.Namespace, names: Mapping[str, str]) -> argparse.Namespace:
    """Return options for an agent and task: without --set of what only others of the sweep have."""
    every = getattr(options, "every_set", options.set)
    own = {kind: [name] for kind in _KINDS if (name := names.get(kind, getattr(options, kind)))}
    swept = {**own, **_swept_names(options)}
    kept = [
        text
        for text in every
        if _exists(read_option(text)[0], own) or not _exists(read_option(text)[0], swept)
    ]
    return argparse.Namespace(**{**vars(options), **names, "set": kept, "every_set": every})


def _exists(name: str, names: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether one of the agents or tasks has a setting, by its present or an earlier name."""
    kind, bare = ("task", name[5:]) if name.startswith("task.") else ("agent", name)
    return any(
        bare in own or any(bare in field.metadata["renamed_from"] for field in own.values())
        for own in (fields(_settings_class(kind, each)) for each in names.get(kind, ()))
    )


def _settings_class(kind: str, name: str) -> type:
    if kind == "task":
        return tasks.task_class(name, "--task")
    cls: type = find("agent", name, agents.AGENTS, "--agent").load_config()
    return cls


def _folder_name(base: RunSpec, values: Mapping[str, Any]) -> str:
    """Return a name of the values, with a hash of them where other values could have that name."""
    first = _first_names(base)
    text = ",".join(f"{first.get(name, name)}={value}" for name, value in values.items())
    word = re.sub(r"[^\w.,=+-]", "_", text)
    is_unique = word == text and "None" not in values.values()  # null is written so, too
    if is_unique and len(word) <= _LONGEST:
        return word
    return f"{word[:_LONGEST]}-{hashlib.sha256(repr(values).encode()).hexdigest()[:8]}"


def _first_names(base: RunSpec) -> dict[str, str]:
    """Return the first name of each renamed setting: it does not change in names of folders."""
    classes = {"": type(base.config), "task.": type(base.task)}
    return {
        prefix + name: prefix + field.metadata["renamed_from"][0]
        for prefix, cls in classes.items()
        for name, field in fields(cls).items()
        if field.metadata["renamed_from"]
    }


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in root.glob("*/config.yaml")))


@functools.lru_cache(maxsize=1)  # until there is another run
def _known_runs(
    root: Path, folders: tuple[str, ...], modes: tuple[str, ...], swept: tuple[str, ...]
) -> dict[tuple[str, ...], Path]:
    """Return the folders of the runs in a sweep's folder, by what identifies a run."""
    return {_known_identity(root / name, modes, swept): root / name for name in folders}


def identity_in(
    folder: Path, modes: Collection[str], swept: Collection[str] = ()
) -> tuple[str, ...]:
    """Return what identifies the run in a folder; nothing has it if it cannot be read."""
    given = dict.fromkeys(("agent", "task", "config", "seed", "init_from", "mode"))
    options = argparse.Namespace(
        **given, set=[], grid=[], search=[], seeds=None, resume="auto", run_dir=folder
    )
    try:
        return identity(run_spec_from_folder(options, folder, modes), swept)
    except ConfigError:  # of a version to come, perhaps
        return (str(folder),)


_known_identity = functools.cache(identity_in)  # in a sweep a run's settings do not change


def identity(spec: RunSpec, swept: Collection[str] = ()) -> tuple[str, ...]:
    """Return what identifies a run: agent, task, settings and seed.

    The digest leaves out some settings, such as `threads`: among the `swept` ones they count too.
    """
    digest, seed = spec.config.digest(spec.task), str(spec.config.seed)
    config, names = to_values(spec.config), present_values(type(spec.config), dict.fromkeys(swept))
    own = [repr(config.get(name)) for name in names]
    return spec.agent.name, spec.task.name, digest, seed, *own
