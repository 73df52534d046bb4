"""Typed settings: equal values are written alike, whichever type of number they were given as."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import tasks
from agents.cli.run_spec import parse_run_spec
from agents.core.config import AgentConfig, with_default
from main import main, parse
from tasks.core.settings import ConfigError, SourcedValue, build, fields, to_values
from tests.conftest import small_agent
from tests.system.test_run import COMMAND

NULLABLE = [n for n, f in fields(AgentConfig).items() if f.type == float | None]


@pytest.mark.parametrize("name", [*NULLABLE, "learning_rate", "weight_decay"])
def test_a_whole_number_is_a_float_where_one_is_meant(name: str) -> None:
    """1 and 1.0 give the same value and the same digest, built from a file or in Python."""
    task = tasks.make("add2x2")
    configs = [AgentConfig(**{name: value}) for value in (1, 1.0)]
    configs += [build(AgentConfig, {name: SourcedValue(value, "here")}) for value in (1, 1.0)]
    assert {type(getattr(config, name)) for config in configs} == {float}
    assert len({config.digest(task) for config in configs}) == 1


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("steps", np.int64(40), int), ("steps", np.uint8(40), int), ("epochs", np.int32(2), int),
        ("learning_rate", np.float32(0.5), float), ("learning_rate", np.float64(0.5), float),
        ("target_score", np.float64(0.5), float), ("target_score", np.int16(1), float),
        ("cell", np.str_("gru"), str),
    ],
)  # fmt: skip
def test_numbers_of_numpy_are_plain_settings(name: str, value: object, kind: type) -> None:
    """What an array holds is accepted as Python's own number or text, and can be written down."""
    agent = small_agent(**{"steps": 2, name: value})
    assert type(getattr(agent.config, name)) is kind
    assert getattr(agent.config, name) == value
    assert yaml.safe_load(yaml.safe_dump(to_values(agent.config))) == to_values(agent.config)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 2.0), ("steps", True), ("steps", np.float64(2)), ("target_score", True),
     ("learning_rate", 10**400), ("learning_rate", float("nan")), ("learning_rate", "1")],
)  # fmt: skip
def test_no_other_type_is_turned_into_a_number(name: str, value: object) -> None:
    """A float is no integer, a truth value no number, and what no float can hold is refused."""
    with pytest.raises(ConfigError, match=f"{name}: .*has the wrong type"):
        AgentConfig(**{name: value})


def test_a_default_of_a_setting_that_does_not_exist_is_refused() -> None:
    """An earlier name has the present one as its hint, and a misspelt one the nearest."""
    for name, present in (("stop_at", "target_score"), ("lr_cycle", "lr_cycles")):
        with pytest.raises(ConfigError, match=rf"unknown setting '{name}'.*mean {present}\?"):
            with_default(name, 1.0)


def test_a_total_of_numpys_is_learned_to() -> None:
    """`learn` takes an integer of numpy's."""
    assert small_agent().learn(np.int64(3)).state.cursor.step == 3


@pytest.mark.parametrize("value", ["1", "1.0"])
def test_a_run_folder_of_an_earlier_version_is_found(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that version 0.4 named by the integer is that of the same command, if it exists."""
    monkeypatch.chdir(tmp_path)
    spec = parse_run_spec(parse([*COMMAND, f"--set=target_score={value}"]), ("train",))
    named = spec.run_dir
    written = {"target_score": 1}
    before = named.with_name(f"{spec.config.digest(spec.task, written)}-s0")
    assert before != named
    before.mkdir(parents=True)
    assert spec.run_dir == (before if value == "1" else named)
    named.mkdir()
    assert spec.run_dir == named


def test_a_task_setting_that_the_run_does_not_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting of the task is checked against the run as one of the agent is; its own is taken."""
    small_agent().learn(1, run_dir=tmp_path, progress=False)
    named = ["--agent", "seq2seq_adder", "--task", "add3x3"]
    for names in ([], named):
        command = [*names, "--run-dir", str(tmp_path), "--mode", "predict", "--input", "1+2+3"]
        assert main([*command, "--set", "task.reverse=none"]) == 2
        message = "--set task.reverse: task.reverse: the run in"
        assert message in (said := capsys.readouterr().err)
        assert "has 'input', not 'none'" in said
        assert main([*command, "--set", "task.reverse=input"]) == 0
