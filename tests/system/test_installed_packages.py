"""On the command line the agents and tasks of installed packages are as the project's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents
import main
from agents.core.runs.run_folder import RunFolder
from tests.helpers.packages import install, search

POINTS = """
[terrarium.agents]
regression = my_agents.regression:Regression
no_agent = my_agents.products:Products
other_name = my_agents.regression:Regression
failing = my_failing:Agent

[terrarium.tasks]
products = my_agents.products:Products
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the template, with some entry points that are wrong."""
    install(tmp_path / "site", "my-agents", POINTS, {"my_failing": "import no_such\n"})
    search(monkeypatch, tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_failing", None)


def test_a_run_of_a_package_is_trained_resumed_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training, doing it again, answering, and loading work by names alone."""
    train = ["--agent", "regression", "--task", "products", "--set", "steps=6"]
    train += ["--set", "eval_samples=32", "--device", "cpu"]
    assert main.main([*train, "--run-dir", "run"]) == 0
    assert main.main([*train, "--run-dir", "run"]) == 0
    assert RunFolder(tmp_path / "run").is_done()
    assert main.main(["--mode", "predict", "--run-dir", "run", "--input", "0 0 0 0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("[")
    loaded = agents.load("run/best.safetensors", device="cpu")
    assert (loaded.name, loaded.task.name) == ("regression", "products")
    assert main.main([*train, "--print-config"]) == 0
    assert "\nhidden_size: 32 " in capsys.readouterr().out


def test_names_of_a_package_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The lists have them after the project's own, with their package."""
    assert main.main(["--list-agents"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed][:-4] == [*agents.OWN_AGENTS]
    assert listed[-4].endswith("my_agents.regression:Regression, of the package my-agents 1.0")
    assert main.main(["--list-tasks"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("products  ")


WRONG = {
    "regresion": "did you mean regression?",
    "no_agent": "my-agents 1.0: 'no_agent' is my_agents.products:Products, which is no Agent",
    "other_name": "my-agents 1.0: 'other_name' makes something with the name 'regression'",
    "failing": "my-agents 1.0: 'failing' cannot be imported: ModuleNotFoundError",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_a_users_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is unknown, or whose package is broken, ends with exit code 2 and its reason."""
    code = main.main(["--agent", name, "--task", "products", "--set", "steps=2"])
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert WRONG[name] in said[-1]
    assert not [line for line in said if "Traceback" in line]


def test_wrong_settings_of_a_package_have_their_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings of its agents are checked as those of the project's own."""
    train = ["--agent", "regression", "--task", "products"]
    assert main.main([*train, "--set", "hiden_size=3"]) == 2
    assert "did you mean hidden_size?" in capsys.readouterr().err
    assert main.main([*train, "--set", "hidden_size=0"]) == 2
    assert "hidden_size: 0 is out of range; accepted: an integer ≥ 1" in capsys.readouterr().err
