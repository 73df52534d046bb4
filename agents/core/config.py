"""Settings of every agent, and reading settings from files, options and arguments."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import yaml

from tasks.core import earlier_names
from tasks.core.memory import read_text
from tasks.core.settings import (
    ConfigError,
    SourcedValue,
    TerrariumError,
    accepted_values,
    digest_values,
    fields,
    nearest,
    setting,
)

__all__ = [
    "AgentConfig",
    "ConfigError",
    "Schedule",
    "SourcedValue",
    "TerrariumError",
    "setting",
    "with_default",
]


# Settings that the name of a run folder does not depend on, by their first names. The characters of
# a reader are those of its task: it writes them down once it has learned.
_NOT_IN_DIGEST = (
    "seed", "threads", "prefetch", "num_workers", "vitals", "record_progression", "characters",
)  # fmt: skip
Schedule = Literal["one_cycle", "warm_restarts", "constant", "cosine", "step", "cyclical"]


@attrs.frozen(kw_only=True)
class AgentConfig:
    """Training settings. The config of each agent adds the sizes of its model."""

    init_from: str | None = setting(
        None,
        "path of a checkpoint whose weights, where they fit, are the start of training "
        "(fine-tuning); null: weights drawn at random",
    )
    seed: int = setting(0, "random seed of weights, data order and dropout", ge=0, lt=2**31)
    steps: int = setting(
        10_000, "number of optimiser steps in all", ge=1, mutable_after_training=True
    )
    epochs: int | None = setting(
        None,
        "passes over the training data, in place of steps; null: steps decide",
        ge=1,
        mutable_after_training=True,
    )
    batch_size: int = setting(256, "training samples per step", ge=1)
    gradient_accumulation_steps: int = setting(
        1,
        "micro-batches of a step, one after the other: a step has batch_size samples all the same, "
        "and needs less memory",
        ge=1,
    )
    optimizer: Literal["adam", "muon"] = setting(
        "adam",
        "optimiser. muon: orthogonalised momentum for hidden-to-hidden matrices, Adam for the rest",
    )
    learning_rate: float = setting(1e-3, "highest learning rate of Adam", gt=0.0)
    adam_beta2: float = setting(
        0.999, "decay of the mean of squared gradients of Adam, per step", ge=0.0, lt=1.0
    )
    muon_learning_rate: float = setting(0.05, "highest learning rate of Muon", gt=0.0)
    muon_momentum: float = setting(0.9, "momentum of Muon", ge=0.0, lt=1.0)
    weight_decay: float = setting(0.0, "decoupled weight decay, per unit of learning rate", ge=0.0)
    schedule: Schedule = setting(
        "one_cycle",
        "learning rate over the steps. one_cycle: linear warm-up, then cosine decay; "
        "warm_restarts: lr_cycles such cycles, each lr_cycle_growth times as long as the one "
        "before; cosine: cosine decay; step: times lr_decay in each further of lr_cycles equal "
        "parts; cyclical: up and down in each of lr_cycles equal parts",
    )
    warmup: float = setting(
        0.1, "share of the steps in which the learning rate of one_cycle rises", ge=0.0, lt=1.0
    )
    lr_cycles: int = setting(
        4,
        "number of learning-rate cycles: of equal length for step and cyclical, of growing length "
        "for warm_restarts",
        ge=1,
        renamed_from="rate_parts",
    )
    lr_cycle_growth: float = setting(
        2.0,
        "length of each learning-rate cycle of warm_restarts over the one before (T_mult)",
        ge=1.0,
        renamed_from="rate_growth",
    )
    lr_decay: float = setting(
        0.1,
        "learning-rate factor. step: from one part to the next; cyclical: lowest rate over highest",
        gt=0.0,
        le=1.0,
        renamed_from="rate_factor",
    )
    curriculum_loss_threshold: float | None = setting(
        None,
        "curriculum: go to the task's next stage when the mean training loss is below this; null: "
        "no curriculum, the last stage from the start",
        gt=0.0,
        renamed_from="raise_below",
    )
    curriculum_window: int = setting(
        10, "training steps in the mean loss of the curriculum", ge=1, renamed_from="raise_steps"
    )
    clip_norm: float | None = setting(
        1.0, "largest L2 norm of the gradient; null: no clipping", gt=0.0
    )
    precision: Literal["fp32", "bf16", "auto"] = setting(
        "auto",
        "floating-point format of training; auto: bf16 where the device multiplies it natively",
    )
    parallel: Literal["none", "data"] = setting(
        "none", "use of several GPUs; data: torch's DataParallel over the visible ones"
    )
    threads: int | None = setting(
        None,
        "CPU threads; null: all for the parts of a batch that can be computed side by side (32 "
        "samples or more each), otherwise one",
        ge=1,
    )
    prefetch: bool = setting(
        True,
        "make training batches beside training, in another process, where they take long to make",
        mutable_after_training=True,
    )
    num_workers: int | None = setting(
        None,
        "worker processes that decode image files beside training, of tasks that read them; null: "
        "one for each core, at most 8; 0: none",
        ge=0,
        mutable_after_training=True,
    )
    eval_every: int | None = setting(
        500, "steps between evaluations on the validation split; null: once an epoch", ge=1
    )
    eval_samples: int = setting(2000, "samples per evaluation during training", ge=1)
    eval_memory: float = setting(
        32.0,
        "megabytes (2^20 bytes) that a layer may read and write at once in evaluation; less: "
        "smaller pieces of a batch",
        gt=0.0,
        mutable_after_training=True,
    )
    patience: int | None = setting(
        None,
        "early stopping: evaluations without a better score before training ends; null: none",
        ge=1,
    )
    target_score: float | None = setting(
        None,
        "score on the validation split at which training ends; null: none",
        renamed_from="stop_at",
    )
    target_loss: float | None = setting(
        None,
        "mean training loss since the last record at which training ends, at an evaluation; null: "
        "none",
        gt=0.0,
    )
    record_diagnostics: bool = setting(
        True,
        "record what --mode diagnose reads of a run (1 % of the time)",
        renamed_from="vitals",
    )
    num_weight_snapshots: int | None = setting(
        None,
        "copies of the weights kept through training, from the first step to the last, for --mode "
        "inspect; null: none",
        ge=2,
        mutable_after_training=True,
        renamed_from="record_progression",
    )
    log_every: int = setting(
        50, "steps between records of loss, learning rate and gradient norm", ge=1
    )
    histograms_every: int = setting(
        5, "evaluations between histograms of weights and gradients; 0: none", ge=0
    )
    save_every: int = setting(
        500,
        "steps between checkpoints: the largest loss by a crash",
        ge=1,
        mutable_after_training=True,
    )
    keep_checkpoints: int = setting(
        3,
        "number of latest checkpoints kept, in addition to the best",
        ge=1,
        mutable_after_training=True,
        renamed_from="keep",
    )

    def digest(self, task: object, written: Mapping[str, object] | None = None) -> str:
        """Return a hash of eight characters of these settings and the task's.

        Only settings that differ from their first defaults are hashed, by their first names, so
        that neither a new setting nor a renamed one changes the name of an existing run folder.
        The seed, threads, monitoring and what follows from the task are excluded. `written` are
        values as they were typed: up to 0.4.0 `1` and `1.0` gave different names where null is
        accepted too.
        """
        values = digest_values(self, written)
        own = {name: value for name, value in values.items() if name not in _NOT_IN_DIGEST}
        payload = json.dumps([own, digest_values(task)], sort_keys=True)
        return hashlib.sha256(payload.encode()).hexdigest()[:8]


def with_default(name: str, default: Any, first_default: Any = attrs.NOTHING) -> Any:
    """Redeclare a setting of every agent with another default."""
    own_fields = fields(AgentConfig)
    if name not in own_fields:
        present_names = [
            n for n, field in own_fields.items() if name in field.metadata["renamed_from"]
        ]
        hint = next(iter(present_names), nearest(name, own_fields))
        raise ConfigError(
            "with_default()", "", f"unknown setting {name!r}", ", ".join(own_fields), hint
        )
    metadata = own_fields[name].metadata
    return setting(
        default, metadata["help"], **metadata["bounds"],
        mutable_after_training=metadata["mutable_after_training"], first_default=first_default,
        renamed_from=metadata["renamed_from"],
    )  # fmt: skip


_MOST_BYTES, _MOST_NODES = 2**20, 10_000  # of a file of settings
# What PyYAML raises of a text that has no value: `!!int ""` is an IndexError, `!!bool x` a KeyError
_NO_VALUE = (
    yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
    RecursionError,
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML loader in which `1e-3` is a number and `no`, `on`, `y` are strings, as in YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the shape of yaml's own class


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolver("bool", r"^(true|false|True|False)$", "tTfF")
_resolver("null", r"^(~|null|Null|NULL|)$", "~nN\0")
_resolver("int", r"^[-+]?(0|[1-9][0-9]*)$", "-+0123456789")
_resolver(
    "float",
    r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$"
    r"|^[-+]?\.(inf|nan)$",
    "-+.0123456789",
)


class _ValueLoader(_Loader):
    """Loader of one value: aliases, by which a short text could become a long value, are text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node that is no alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def read_value(text: str) -> object:
    """Parse one YAML value, such as the text after the `=` of an option."""
    try:
        return yaml.load(text, _ValueLoader)
    except _NO_VALUE:
        return text


def read_file(path: Path) -> dict[str, SourcedValue]:
    """Read a YAML file as dotted settings with their line numbers; mistakes are ConfigErrors.

    `task: {name: add3x3, reverse: none}` gives `task.name` and `task.reverse`.
    """
    place = f"--config {path}"
    try:
        text = read_text(path, "utf-8", _MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(place, "", f"cannot be read: {reason}", "a YAML file") from None
    try:
        root = yaml.compose(text, _Loader)
    except RecursionError:
        problem = "has too many lists or mappings within each other"
        raise ConfigError(place, "", problem, "`name: value` lines") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = f"is not YAML: {getattr(error, 'problem', error)}"
        raise ConfigError(line, "", problem, "`name: value` lines") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        kind = "list" if isinstance(root, yaml.SequenceNode) else "single value"
        problem = f"expected a mapping, found a {kind}"
        line = f"{path}, line {root.start_mark.line + 1}"
        raise ConfigError(line, "", problem, "`name: value` lines")
    try:
        return dict(_flatten(root, path, "", itertools.count(1)))
    except RecursionError:
        raise ConfigError(place, "", "a mapping contains itself", "`name: value` lines") from None


def _flatten(
    node: yaml.MappingNode, path: Path, prefix: str, nodes: Iterator[int]
) -> Iterator[tuple[str, SourcedValue]]:
    """Yield the settings of a mapping, and of those in it; `nodes` counts all that were visited."""
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        place = f"{path}, line {line}"
        if next(nodes) > _MOST_NODES:  # by aliases, a short file can have billions
            problem = f"has more than {_MOST_NODES:,} settings"
            raise ConfigError(place, "", problem, "as many as there are")
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(place, "", "expected a plain text as the key", "`name: value` lines")
        name = prefix + key.value
        if name in first_lines:
            problem = f"duplicate key {name!r} (first in line {first_lines[name]})"
            raise ConfigError(place, "", problem, "each name once")
        first_lines[name] = line
        if isinstance(value, yaml.MappingNode):
            yield from _flatten(value, path, f"{name}.", nodes)
        elif isinstance(value, yaml.SequenceNode):
            raise ConfigError(place, name, "expected one value, found a list", "one value")
        else:
            yield name, SourcedValue(read_value_node(value), place)


def read_value_node(node: yaml.ScalarNode) -> object:
    """Return the value of a scalar node of a YAML file."""
    loader = _Loader("")
    try:
        value: object = loader.construct_object(node)
    except _NO_VALUE:  # such as an unknown tag
        value = node.value
    return value


def read_option(text: str) -> tuple[str, SourcedValue]:
    """Parse one `name=value` of --set."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        problem = f"expected name=value, found {text!r}"
        raise ConfigError("--set", "", problem, "name=value, such as hidden_size=64")
    return name.strip(), SourcedValue(read_value(value), f"--set {name.strip()}")


def describe(
    cls: type, values: Mapping[str, Any], indent: str = "", only: Mapping[str, Any] | None = None
) -> str:
    """Return settings as YAML lines, each with their help texts and accepted values."""
    lines = []
    for name, field in fields(cls).items():
        if only is not None and name not in only:
            continue
        shown = yaml.safe_dump(values[name]).removesuffix("\n...\n").strip()
        comment = f"{field.metadata['help']} ({accepted_values(field)})"
        lines.append(f"{indent}{f'{name}: {shown}':<34} # {comment}")
    return "\n".join(lines)


def flat_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an agent and its task, those of the task as `task.<name>`."""
    of_task = {f"task.{name}": value for name, value in identity["task_settings"].items()}
    names = {"agent": identity["agent"], "task": identity["task"]}
    return {**names, **identity["config"], **of_task}


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
    AgentConfig.__getattr__ = earlier_names.member
