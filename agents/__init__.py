"""Agents by name: `agents.make("seq2seq_adder", task="add3x3")`, `agents.load(path)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agents.core.earlier_names  # noqa: F401 - earlier names of modules work from here on
import tasks
from tasks.core.paths import expand_user
from tasks.core.registry import Entry, Registry, find, look_up
from tasks.core.settings import (
    ConfigError,
    SourcedValue,
    build,
    nearest,
    present_values,
    with_first_defaults,
)

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.runs.checkpoint import Checkpoint
    from tasks.core.task import Task

OWN_AGENTS = {
    "seq2seq_adder": Entry(
        "agents.seq2seq_adder",
        "Seq2SeqAdder",
        "encoder–decoder LSTM (or GRU, RNN) from text to text",
        config="agents.configs.seq2seq_adder:AdderConfig",
    ),
    "attention_adder": Entry(
        "agents.attention_adder",
        "AttentionAdder",
        "encoder–decoder LSTM (or GRU) with additive attention",
        config="agents.configs.attention_adder:AttentionConfig",
    ),
    "transformer_adder": Entry(
        "agents.transformer_adder",
        "TransformerAdder",
        "small encoder–decoder Transformer from text to text",
        config="agents.configs.transformer_adder:TransformerConfig",
    ),
    "modadd_transformer": Entry(
        "agents.modadd_transformer",
        "ModaddTransformer",
        "one-layer Transformer without layer norm that groks modular addition",
        config="agents.configs.modadd_transformer:ModaddConfig",
    ),
    "parity_lstm": Entry(
        "agents.parity_lstm",
        "ParityLSTM",
        "LSTM (or GRU, RNN) text classifier, with a curriculum of growing length",
        config="agents.configs.parity_lstm:ParityConfig",
    ),
    "adding_lstm": Entry(
        "agents.adding_lstm",
        "AddingLSTM",
        "LSTM (or GRU, RNN, IRNN) regression of a series, with a curriculum of growing length",
        config="agents.configs.adding_lstm:AddingConfig",
        task="adding_problem",
        aliases={
            "dataset.dt_length": "task.num_samples",
            "dataset.t": "task.length",
            "train.epochs": "epochs",
            "train.batch": "batch_size",
            "train.es_patience": "patience",
            "artifacts": "run_dir",
        },
        # Patience counts epochs there, and long runs require lower rates.
        alias_defaults={"eval_every": None, "learning_rate": 2e-3, "muon_learning_rate": 0.02},
    ),
    "digits_lstm": Entry(
        "agents.digits_lstm",
        "DigitsLSTM",
        "LSTM (or GRU) image classifier that reads row by row",
        config="agents.configs.digits_lstm:DigitsConfig",
    ),
    "cnn_classifier": Entry(
        "agents.cnn_classifier",
        "CnnClassifier",
        "convolutional image classifier, a small network or a model of torchvision",
        config="agents.configs.cnn_classifier:CnnConfig",
    ),
    "yolo_detector": Entry(
        "agents.yolo_detector",
        "YoloDetector",
        "convolutional network that finds objects on a page, as boxes",
        config="agents.configs.yolo_detector:YoloConfig",
    ),
    "ctc_reader": Entry(
        "agents.ctc_reader",
        "CtcReader",
        "CNN and BiLSTM that read a line of handwriting, trained by CTC",
        config="agents.configs.ctc_reader:CtcReaderConfig",
    ),
    "attention_reader": Entry(
        "agents.attention_reader",
        "AttentionReader",
        "the same with a decoder that looks at columns while it writes, by CTC and attention",
        config="agents.configs.attention_reader:AttentionReaderConfig",
    ),
    "char_lm": Entry(
        "agents.char_lm",
        "CharLM",
        "character-level language model, LSTM (or GRU, RNN)",
        config="agents.configs.char_lm:CharLMConfig",
    ),
    "mlp": Entry(
        "agents.mlp",
        "MLP",
        "multilayer perceptron over all objects of a set as one vector",
        config="agents.configs.sets:MLPConfig",
    ),
    "deep_sets": Entry(
        "agents.deep_sets",
        "DeepSets",
        "Deep Sets: each object by itself, then their maximum, sum, mean or minimum",
        config="agents.configs.sets:DeepSetsConfig",
    ),
    "gnn": Entry(
        "agents.gnn",
        "GNN",
        "graph neural network: rounds of messages between the objects of a set or graph",
        config="agents.configs.sets:GNNConfig",
    ),
    "exhaustive_search": Entry(
        "agents.exhaustive_search",
        "ExhaustiveSearch",
        "LSTM over every subset of a small set, then the maximum",
        config="agents.configs.sets:ExhaustiveSearchConfig",
    ),
    "set_transformer": Entry(
        "agents.set_transformer",
        "SetTransformer",
        "self-attention over the objects of a set or graph, without positions",
        config="agents.configs.sets:SetTransformerConfig",
    ),
}

# By name; those of installed packages are after the project's own.
AGENTS = Registry("agent", "agents.core.agent:Agent", OWN_AGENTS)


def make(name: str, *, task: "str | Task", device: str = "auto", **settings: Any) -> "Agent":
    """Make an agent by name for a task; settings are the fields of its config.

    Raises:
        ConfigError: (a ValueError) names the setting, its value, and what is accepted.
    """
    place = "agents.make()"
    from tasks.core.task import Task

    chosen = task if isinstance(task, Task) else tasks.from_settings(task, {}, place)
    sourced = {key: SourcedValue(value, place) for key, value in settings.items()}
    return from_settings(name, chosen, sourced, device, place)


def from_settings(
    name: object, task: "Task", settings: Mapping[str, SourcedValue], device: str, place: str
) -> "Agent":
    """Make an agent from settings with their places."""
    resolved = find("agent", name, AGENTS, place)
    cls = resolved.load()
    resolved.check_name(cls.name)
    agent: Agent = cls(task, build(cls.Config, settings), device)
    return agent


def load(path: str | Path, device: str = "auto") -> "Agent":
    """Load an agent from a checkpoint file; nothing else is needed, and nothing is unpickled.

    Raises:
        CheckpointError: the file is missing or corrupt, or does not fit.
    """
    from agents.core.runs.checkpoint import read_agent, run_folder_of

    file = expand_user(str(path))
    return from_checkpoint(read_agent(file), device, run_folder_of(file), f"checkpoint {path}")


def from_checkpoint(checkpoint: "Checkpoint", device: str, run_dir: Path, place: str) -> "Agent":
    """Make the agent of a checkpoint; `place` says where that is from, for errors."""
    from agents.core.runs.snapshots import FOLDER, DiskSnapshots

    values = checkpoint.values
    for kind, entries in (("agent", AGENTS), ("task", tasks.TASKS)):
        if look_up(values[kind], entries) is None:
            problem = f"{values[kind]!r} is not registered, so it cannot be made again by its name"
            accepted = f"an entry for it in {kind}s.{kind.upper()}S, or a package that has it"
            raise ConfigError(place, kind, problem, accepted, nearest(values[kind], entries))

    def sourced(settings: Mapping[str, Any]) -> dict[str, SourcedValue]:
        return {key: SourcedValue(value, place) for key, value in settings.items()}

    task_settings = present_values(tasks.task_class(values["task"]), values["task_settings"])
    task = tasks.from_settings(values["task"], sourced(task_settings), place)
    config = sourced(values["config"])
    cls = find("agent", values["agent"], AGENTS, place).load_config()
    settings = with_first_defaults(cls, config, config, place)
    agent = from_settings(values["agent"], task, settings, device, place)
    agent.state.restore(checkpoint)
    agent.snapshots = DiskSnapshots(run_dir / FOLDER)
    return agent
