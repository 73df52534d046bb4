"""Run specifications: names and settings from options and files, checked without torch."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

import agents
import tasks
from agents.core.config import (
    AgentConfig,
    read_file,
    read_option,
    read_value,
)
from tasks.core.paths import expand_user, folder_path
from tasks.core.registry import Entry, ResolvedEntry, find
from tasks.core.settings import (
    ConfigError,
    SourcedValue,
    TerrariumError,
    build,
    fields,
    mutable_settings,
    nearest,
    present_names,
    with_first_defaults,
)

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.runs.checkpoint import Checkpoint
    from tasks.core.task import Task

Settings = Mapping[str, SourcedValue]  # by name; those of the task as `task.<name>`
NON_SETTING_KEYS = ("agent", "task", "mode", "run_dir")  # accepted in a file, like settings
RENAMED_MODES = {"validate": "evaluate"}  # earlier names, which are still accepted


@attrs.frozen
class RunSpec:
    """Specification of one run: mode, agent, task and settings, checked without torch."""

    mode: str
    agent: ResolvedEntry
    task: "Task"
    config: AgentConfig
    settings: Mapping[str, SourcedValue]  # of the agent: those that were specified
    task_settings: Mapping[str, SourcedValue]  # of the task, likewise
    options: argparse.Namespace

    @property
    def run_dir(self) -> Path:
        """Run folder: `--run-dir`, or one whose name is computed from the settings."""
        if self.options.run_dir is not None:
            return Path(self.options.run_dir)
        parent = Path("runs") / self.task.name / self.agent.name
        own_fields = fields(type(self.config))
        as_typed = {k: v.value for k, v in self.settings.items() if own_fields[k].type is not float}
        folder, earlier = (
            parent / f"{self.config.digest(self.task, values)}-s{self.config.seed}"
            for values in ({}, as_typed)
        )
        return earlier if earlier.exists() and not folder.exists() else folder

    def make(self) -> "Agent":
        """Make the agent, untrained."""
        return agents.from_settings(
            self.agent.name, self.task, self.settings, self.options.device, "--agent"
        )

    def load_trained(self) -> "Agent":
        """Load the best agent of the run's folder."""
        from agents.core.runs.run_folder import load_best

        if not (self.run_dir / "best.safetensors").exists():
            problem = f"{self.run_dir / 'best.safetensors'} does not exist: nothing was trained yet"
            accepted = "the --agent, --task and --set of an earlier --mode train, or its --run-dir"
            raise ConfigError("--run-dir", "", problem, accepted)
        return self._load(load_best(self.run_dir, warn))

    def load_newest(self) -> "Agent":
        """Load the newest valid checkpoint, which has the whole history; without one, `make()`."""
        from agents.core.runs.run_folder import RunFolder

        checkpoint = RunFolder(self.run_dir).latest_valid_checkpoint(warn)
        return self.make() if checkpoint is None else self._load(checkpoint)

    def load_watched(self) -> "Agent":
        """Load the agent of a run that may still learn, without changing anything in its folder.

        Without a checkpoint it has the weights of the latest snapshot, or those before training.
        """
        from agents.core.runs.run_folder import RunFolder
        from agents.core.runs.snapshots import FOLDER, DiskSnapshots

        checkpoint = RunFolder(self.run_dir).readable_checkpoint()
        if checkpoint is not None:
            return self._load(checkpoint)
        agent = self.make()
        agent.snapshots = DiskSnapshots(self.run_dir / FOLDER)
        for step in reversed(agent.snapshots.steps()):
            with contextlib.suppress(TerrariumError):  # it is corrupt, or was removed meanwhile
                agent.model.load_state_dict(agent.snapshots.state(step))
                break
        return agent

    def _load(self, checkpoint: "Checkpoint") -> "Agent":
        agent = agents.from_checkpoint(
            checkpoint, self.options.device, self.run_dir, str(self.run_dir)
        )
        self._check_matches_run(agent)
        return agent

    def _check_matches_run(self, agent: "Agent") -> None:
        """Check that agent, task and settings of a loaded run are those that were specified.

        Settings marked as mutable after training (such as `temperature`) are applied instead.
        """
        mutable = mutable_settings(type(self.config))
        for name, requested, actual, place in self._comparisons(agent):
            if requested != actual and name not in (*mutable, "seed"):  # which names samples here
                problem = f"the run in {self.run_dir} has {actual!r}, not {requested!r}"
                raise ConfigError(place, name, problem, "the run's own settings, or none")
        changed = {name: getattr(self.config, name) for name in mutable if name in self.settings}
        agent.config = attrs.evolve(agent.config, **changed)

    def _comparisons(self, agent: "Agent") -> Iterator[tuple[str, object, object, str]]:
        """Yield name, specified value, value of the run, and place of each specified setting.

        The names of agent and task come first: another agent does not have the same settings.
        """
        yield "agent", self.agent.name, agent.name, "--agent"
        yield "task", self.task.name, agent.task.name, "--task"
        for name, item in self.settings.items():
            yield name, getattr(self.config, name), getattr(agent.config, name), item.place
        for name, item in self.task_settings.items():
            yield f"task.{name}", getattr(self.task, name), getattr(agent.task, name), item.place


def run_spec_from_folder(
    options: argparse.Namespace, folder: Path, modes: Collection[str]
) -> RunSpec:
    """Return the specification of an existing run, of which only the folder is specified."""
    if not (folder / "config.yaml").exists():
        problem = f"{folder} is not a run folder: it has no config.yaml"
        raise ConfigError("command line", "", problem, "the folder of a trained agent")
    return parse_run_spec(argparse.Namespace(**{**vars(options), "run_dir": folder}), modes)


def parse_run_spec(
    options: argparse.Namespace, modes: Collection[str], more: Settings | None = None
) -> RunSpec:
    """Check all names and settings; `modes` are those that exist, `more` wins over options."""
    in_file, in_options = _read_layers(options)
    layers = (in_file, in_options, more or {})
    merged = {name: item for layer in layers for name, item in layer.items()}
    mode = merged.get("mode", SourcedValue("train", "--mode"))
    if str(mode.value) in RENAMED_MODES:
        present = RENAMED_MODES[str(mode.value)]
        note_renamed(mode.place, str(mode.value), present)
        mode = SourcedValue(present, mode.place)
    if str(mode.value) not in modes:
        problem, hint = f"unknown mode {mode.value!r}", nearest(mode.value, modes)
        raise ConfigError(mode.place, "mode", problem, ", ".join(modes), hint)
    if "run_dir" in merged:
        folder = folder_path(merged["run_dir"].value, merged["run_dir"].place)
        options = argparse.Namespace(**{**vars(options), "run_dir": folder})
    names = {kind: _find_name(kind, merged) for kind in ("agent", "task")}
    agent = find("agent", names["agent"].value, agents.AGENTS, names["agent"].place)
    task_class = tasks.task_class(names["task"].value, names["task"].place)
    cls, saved = agent.load_config(), Path(options.run_dir or "") / "config.yaml"
    settings: dict[str, SourcedValue] = {}
    of_task: dict[str, SourcedValue] = {}
    for layer in layers:
        is_saved = layer is in_file and options.config is None  # not written by hand: no note
        notify = None if is_saved else note_renamed
        own, of_layer = _split_by_owner(layer)
        settings |= present_names(cls, own, notify)
        of_task |= present_names(task_class, of_layer, notify)
    task = tasks.from_settings(names["task"].value, of_task, names["task"].place)
    if options.run_dir and saved.exists():
        run = read_file(saved)
        settings = with_first_defaults(cls, settings, run, f"the run in {options.run_dir}")
    config = build(cls, settings, [f"task.{name}" for name in fields(type(task))])
    return RunSpec(str(mode.value), agent, task, config, settings, of_task, options)


def _split_by_owner(settings: Settings) -> tuple[Settings, Settings]:
    """Return the settings of the agent, and those of the task without the prefix `task.`."""
    of_task = {k.removeprefix("task."): v for k, v in settings.items() if k.startswith("task.")}
    own = {
        k: v for k, v in settings.items() if k not in NON_SETTING_KEYS and not k.startswith("task.")
    }
    return own, of_task


def _read_layers(options: argparse.Namespace) -> tuple[Settings, Settings]:
    """Return the settings of the file and of the options; options win.

    If only a run folder is specified, the file is its config.yaml.
    """
    start = expand_user(options.resume)
    if options.resume not in ("auto", "never") and (start.is_dir() or not start.exists()):
        problem = f"{start} {'is a folder' if start.is_dir() else 'does not exist'}"
        raise ConfigError("--resume", "", problem, "auto, never, or a checkpoint file")
    path = config_of(options)
    in_file = _translate_aliases(read_file(path), options.agent) if path else {}
    if "task.name" in in_file:
        in_file["task"] = in_file.pop("task.name")
    in_options = dict(read_option(text) for text in options.set)
    if options.seed is not None:
        in_options["seed"] = SourcedValue(read_value(options.seed), "--seed")
    if options.init_from is not None:
        in_options["init_from"] = SourcedValue(options.init_from, "--init-from")
    for name in NON_SETTING_KEYS:
        if getattr(options, name) is not None:
            in_options[name] = SourcedValue(
                str(getattr(options, name)), f"--{name.replace('_', '-')}"
            )
    return in_file, in_options


def config_of(options: argparse.Namespace) -> Path | None:
    """Return the settings file: `--config`, or the config.yaml of a run specified by its folder."""
    path: Path | None = options.config
    if path is None and options.agent is None and options.task is None and options.run_dir:
        saved = Path(options.run_dir) / "config.yaml"
        return saved if saved.exists() else None
    return path


def _translate_aliases(settings: dict[str, SourcedValue], agent: object) -> dict[str, SourcedValue]:
    """Return a file's settings with the names of another tool replaced by ours.

    A file without an agent, but with such names, is for the agent that has them as aliases.
    """
    agent = settings["agent"].value if "agent" in settings else agent
    for name, entry in agents.AGENTS.items():
        alias_groups = {key.partition(".")[0] for key in entry.aliases}
        groups = {key.partition(".")[0] for key in settings}
        if groups & alias_groups and agent in (None, name):
            break
    else:
        return settings
    _check_known(settings, name, entry)
    translated: dict[str, SourcedValue] = {}
    for key, item in settings.items():
        name_here = entry.aliases.get(key, key)
        if name_here in translated:
            other = translated[name_here].place
            problem = f"duplicate key {key!r}: it is {name_here!r}, which {other} has"
            raise ConfigError(item.place, "", problem, "each setting once")
        translated[name_here] = item
    place = next(iter(settings.values())).place
    defaults = {"agent": name, "task": entry.task, **entry.alias_defaults}
    return {key: SourcedValue(value, place) for key, value in defaults.items()} | translated


def _check_known(settings: Mapping[str, SourcedValue], name: str, entry: Entry) -> None:
    """Check that every name is a setting, an earlier name of one, or an alias."""
    own_fields = fields(find("agent", name, agents.AGENTS, name).load_config())
    names = [*entry.aliases, *NON_SETTING_KEYS, *own_fields]
    earlier = {old for field in own_fields.values() for old in field.metadata["renamed_from"]}
    for key, item in settings.items():
        if key not in names and key not in earlier and not key.startswith("task."):
            problem, hint = f"unknown setting {key!r} of {name}", nearest(key, names)
            raise ConfigError(item.place, "", problem, ", ".join(names), hint)


def _find_name(kind: str, settings: Settings) -> SourcedValue:
    if kind in settings:
        return settings[kind]
    names = ", ".join(agents.AGENTS if kind == "agent" else tasks.TASKS)
    raise ConfigError(f"--{kind}", "", "is required", names)


@functools.cache  # once in a process, as Python's own warnings
def note_renamed(place: str, old: str, new: str) -> None:
    """Print a note that something was specified by its earlier name."""
    warn(f"terrarium: {place}: {old!r} is now called {new!r}")


def warn(message: str) -> None:
    """Print a message on standard error."""
    print(message, file=sys.stderr)
