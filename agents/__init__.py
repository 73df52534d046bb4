"""Agents by name: `agents.make("seq2seq_adder", task="add3x3")`, `agents.load(path)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agents.core.earlier_names  # noqa: F401 - earlier names of modules work from here on
import tasks
from tasks.core.paths import expand_user
from tasks.core.registry import Entry, find, look_up
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

AGENTS = {
    "seq2seq_adder": Entry(
        "agents.seq2seq_adder",
        "Seq2SeqAdder",
        "encoder–decoder LSTM (or GRU, RNN) that answers a text with a text",
        config="agents.configs.seq2seq_adder:AdderConfig",
    ),
    "attention_adder": Entry(
        "agents.attention_adder",
        "AttentionAdder",
        "encoder–decoder LSTM (or GRU) with additive attention to the question",
        config="agents.configs.attention_adder:AttentionConfig",
    ),
    "transformer_adder": Entry(
        "agents.transformer_adder",
        "TransformerAdder",
        "small encoder–decoder Transformer that answers a text with a text",
        config="agents.configs.transformer_adder:TransformerConfig",
    ),
    "parity_lstm": Entry(
        "agents.parity_lstm",
        "ParityLSTM",
        "LSTM (or GRU, RNN) that answers a text with a label, learned in stages of growing length",
        config="agents.configs.parity_lstm:ParityConfig",
    ),
    "adding_lstm": Entry(
        "agents.adding_lstm",
        "AddingLSTM",
        "LSTM (or GRU, RNN, IRNN) that answers a series with a number, learned in stages likewise",
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
        # Patience counts epochs there, and long runs want lower rates.
        alias_defaults={"eval_every": None, "learning_rate": 2e-3, "muon_learning_rate": 0.02},
    ),
    "digits_lstm": Entry(
        "agents.digits_lstm",
        "DigitsLSTM",
        "LSTM (or GRU) that reads an image row by row and answers with its label",
        config="agents.configs.digits_lstm:DigitsConfig",
    ),
    "cnn_classifier": Entry(
        "agents.cnn_classifier",
        "CnnClassifier",
        "convolutional network, small or of torchvision, that answers an image with its label",
        config="agents.configs.cnn_classifier:CnnConfig",
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
        "LSTM (or GRU, RNN) that reads a text, says what comes next, and writes one",
        config="agents.configs.char_lm:CharLMConfig",
    ),
}


def make(name: str, *, task: "str | Task", device: str = "auto", **settings: Any) -> "Agent":
    """Make an agent by name for a task; settings are the fields of its config.

    Raises:
        ConfigError: (a ValueError) names the setting, its value, and what is accepted.
    """
    place = "agents.make()"
    from tasks.core.task import Task

    chosen = task if isinstance(task, Task) else tasks.from_given(task, {}, place)
    given = {key: SourcedValue(value, place) for key, value in settings.items()}
    return from_given(name, chosen, given, device, place)


def from_given(
    name: object, task: "Task", given: Mapping[str, SourcedValue], device: str, place: str
) -> "Agent":
    """Make an agent from settings that each know where they were written."""
    cls = find("agent", name, AGENTS, place).load()
    agent: Agent = cls(task, build(cls.Config, given), device)
    return agent


def load(path: str | Path, device: str = "auto") -> "Agent":
    """Make the agent that a checkpoint holds; nothing else is needed, and nothing is unpickled.

    Raises:
        CheckpointError: the file is missing, cut off, damaged or does not fit.
    """
    from agents.core.runs.checkpoint import read_agent, run_folder_of

    file = expand_user(str(path))
    return from_checkpoint(read_agent(file), device, run_folder_of(file), f"checkpoint {path}")


def from_checkpoint(found: "Checkpoint", device: str, run_dir: Path, place: str) -> "Agent":
    """Make the agent that a read checkpoint holds; `place` is where it came from."""
    from agents.core.runs.snapshots import FOLDER, Written

    values = found.values
    for kind, known in (("agent", AGENTS), ("task", tasks.TASKS)):
        if look_up(values[kind], known) is None:
            problem = f"{values[kind]!r} is not registered, so it cannot be made again by its name"
            accepted = f"an entry for it in {kind}s.{kind.upper()}S before loading"
            raise ConfigError(place, kind, problem, accepted, nearest(values[kind], known))

    def given(settings: Mapping[str, Any]) -> dict[str, SourcedValue]:
        return {key: SourcedValue(value, place) for key, value in settings.items()}

    task_settings = present_values(tasks.task_class(values["task"]), values["task_settings"])
    task = tasks.from_given(values["task"], given(task_settings), place)
    config = given(values["config"])
    cls = find("agent", values["agent"], AGENTS, place).load_config()
    settings = with_first_defaults(cls, config, config, place)
    agent = from_given(values["agent"], task, settings, device, place)
    agent.state.restore(found)
    agent.snapshots = Written(run_dir / FOLDER)
    return agent
