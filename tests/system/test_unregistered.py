"""Tasks and agents that stand in no registry: used from Python as they are."""

import ast
import importlib
import sys
from pathlib import Path

import attrs
import pytest

import agents
import tasks
from agents.core.runs.run_folder import RunFolder
from agents.seq2seq_adder import Seq2SeqAdder
from tasks.addition import Addition
from tasks.core.registry import Entry, find
from tasks.core.settings import ConfigError, build, setting
from tests.conftest import same, small_agent, weights


@attrs.frozen(kw_only=True)
class Sums(Addition):
    """Sums under a name of their own, with a setting of their own."""

    colour: str = setting("red", "of nothing")

    @property
    def name(self) -> str:
        """A name that no registry has."""
        return "sums"


class Adder(Seq2SeqAdder):
    """An agent under a name that no registry has."""

    name = "my_adder"


def test_a_task_of_ones_own_is_learned_and_looked_into(tmp_path: Path) -> None:
    """Learning, evaluating, asking, looking, saving and resuming need no registry."""
    task = Sums(digits=2, colour="blue")
    agent = small_agent(task=task, steps=6).learn(3, run_dir=tmp_path, progress=False)
    agent.learn(run_dir=tmp_path, progress=False)
    assert RunFolder(tmp_path).is_done()
    whole = small_agent(task=task, steps=6, schedule="constant").learn()
    parts = small_agent(task=task, steps=6, schedule="constant").learn(3).learn()
    assert same(weights(whole), weights(parts))
    assert 0 <= agent.evaluate(num=8)["exact_match"] <= 1
    assert isinstance(agent.predict("1+2"), str)
    assert agent.inspect(["learning_curves"])["learning_curves"] is not None
    assert tasks.settings_of(agent.task)["colour"] == "blue"
    with pytest.raises(ConfigError, match=r"task\.colour: the run in this folder has 'blue'"):
        small_agent(task=Sums(digits=2), steps=6).learn(run_dir=tmp_path, progress=False)


def test_loading_what_is_not_registered_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the task, or the agent, and where it belongs; once it is there, it loads."""
    task = Sums(digits=2)
    agent = small_agent(task=task)
    path = agent.save(tmp_path / "a.safetensors")
    message = r"task: 'sums' is not registered.*accepted: an entry for it in tasks\.TASKS"
    with pytest.raises(ConfigError, match=message):
        agents.load(path)
    with pytest.raises(ConfigError, match="unknown task 'sums'"):
        tasks.make("sums")
    monkeypatch.setitem(tasks.TASKS, "sums", Entry(__name__, "Sums", "sums"))
    assert same(weights(agents.load(path, "cpu")), weights(agent))
    other = Adder(task, agent.config, "cpu").learn(1)
    path = other.save(tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match=r"agent: 'my_adder' is not registered.*agents\.AGENTS"):
        agents.load(path)
    monkeypatch.setitem(agents.AGENTS, "my_adder", Entry(__name__, "Adder", "an adder"))
    assert same(weights(agents.load(path, "cpu")), weights(other))


CONFIGS = {
    "extends another agent's": """
from agents.seq2seq_adder import AdderConfig
@attrs.frozen(kw_only=True)
class Mine(AdderConfig):
    colour: str = setting("red", "of nothing")
""",
    "extends one of its own file": """
@attrs.frozen(kw_only=True)
class Base(AgentConfig):
    hidden_size: int = setting(4, "of nothing", ge=1)
@attrs.frozen(kw_only=True)
class Mine(Base):
    colour: str = setting("red", "of nothing")
""",
    "uses a constant": """
RED = "red"
@attrs.frozen(kw_only=True)
class Mine(AgentConfig):
    colour: str = setting(RED, "of nothing")
""",
    "uses what is imported in a branch": """
if True:
    from string import ascii_letters as LETTERS
@attrs.frozen(kw_only=True)
class Mine(AgentConfig):
    colour: str = setting("red", LETTERS)
""",
    "is imported": "from tests.system.test_unregistered import Mine\n",
    "stands beside another": """
@attrs.frozen(kw_only=True)
class Mine(AgentConfig):
    colour: str = setting("red", "of nothing")
@attrs.frozen(kw_only=True)
class Other(AgentConfig):
    pass
""",
}


@attrs.frozen(kw_only=True)
class Mine(Adder.Config):
    """A config that another file imports."""

    colour: str = setting("red", "of nothing")


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_config_class_is_found_without_an_import_of_torch_before(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line finds the class that the agent names, however it is made."""
    text = "import attrs\nfrom agents.core.config import AgentConfig, setting\n"
    text += f"{CONFIGS[kind]}\nclass MyAgent:\n    Config = Mine\n"
    ast.parse(text)
    (tmp_path / "my_agent_file.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "torch")  # as at the start of the command line
    found = find("agent", "mine", {"mine": Entry("my_agent_file", "MyAgent", "mine")}, "test")
    try:
        config = build(found.load_config(), {})
        assert config.colour == "red"
        assert type(config).__name__ == "Mine"
    finally:
        sys.modules.pop("my_agent_file", None)
