"""The tutorial on an own agent, run as by its reader: wheels, in an environment of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from agents import conformance as agent_conformance
from tasks import conformance as task_conformance

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "docs" / "template"
PAGE = (ROOT / "docs" / "own_agent.md").read_text(encoding="utf-8")
PACKAGES = ("agents", "tasks", "visualization")
INSTALLED = (
    "source .venv/bin/activate", "cp -r docs/template my-agents", "cd my-agents",
    "pip install --editable .",
)  # fmt: skip
# Run all of the page in one process, as importing torch takes as long as all else.
RUNNER = """
import json, shlex, sys
import pytest
import agents, main, my_agents, tasks, visualization

for kind, text in json.load(open(sys.argv[1])):
    if kind == "python":
        exec(compile(text, "own_agent.md", "exec"), {})
        continue
    program, *arguments = shlex.split(text)
    print("$", text, flush=True)
    if program == "pytest":  # the agent's checks have been run by check_agent
        options = ["-q", "-p", "no:cacheprovider", "-k", "not agent_conforms"]
        code = pytest.main([*arguments, *options])
    else:
        code = {"terrarium": main.main}[program](arguments)
    assert code == 0, (text, code)
for module in (agents, main, my_agents, tasks, visualization):
    print("imported", module.__file__)
"""


def fenced(kind: str) -> list[str]:
    """Return the blocks of code of a kind on the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_shows_the_template_as_it_is() -> None:
    """Its code is that of the files, of which agent and task have at most 60 lines of text."""
    package = TEMPLATE / "my_agents"
    code = [(package / name).read_text() for name in ("products.py", "regression.py")]
    for text in [*code, (TEMPLATE / "test_my_agents.py").read_text()]:
        assert text in fenced("python")
    assert (TEMPLATE / "pyproject.toml").read_text() in fenced("toml")
    assert len([line for text in code for line in text.splitlines() if line]) <= 60


def test_the_page_lists_every_check() -> None:
    """Each check of the suites is on the page, with what must hold."""
    for check in (*task_conformance.CHECKS, *agent_conformance.CHECKS):
        sentence = " ".join((check.__doc__ or "").split())
        assert f"| `{check.__name__}` | {sentence} |" in PAGE


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the wheels of the project and of the template, from copies of their files."""
    folder = tmp_path_factory.mktemp("wheels")
    source, template = folder / "source", folder / "template"
    no_caches = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=no_caches)
    for name in ("main.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(TEMPLATE, template, ignore=no_caches)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", folder, source, template]
    subprocess.run(command, check=True, cwd=folder)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheels, and what they need from here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--no-compile"]
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", *options, *wheels]
    subprocess.run(command, check=True)
    # A line of a .pth file is a folder to import from: the checkout's own .pth is not read there.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return interpreter


def run(python: Path, folder: Path, *arguments: object) -> str:
    """Run the interpreter in a folder, with nothing of this process's path; return what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [python, *map(str, arguments)], cwd=folder, env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_has_every_file(wheels: list[Path]) -> None:
    """The wheel has all of the packages: code, templates, styles, scripts, and main."""
    (wheel,) = [path for path in wheels if path.name.startswith("terrarium")]
    files = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(file.endswith(".js") for file in files)
    assert {*files, "main.py"} - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_names_are_listed_without_an_import(python: Path, tmp_path: Path) -> None:
    """The installed command lists the agent and its package; neither is imported, nor is torch."""
    code = (
        "import sys, main; main.main(['--list-agents']); main.main(['--list-tasks'])\n"
        "sys.exit(bool({'torch', 'my_agents'} & sys.modules.keys()))"
    )
    listed = run(python, tmp_path, "-c", code)
    assert "regression              my_agents.regression:Regression, of the package" in listed
    assert "products                my_agents.products:Products, of the package my-agents" in listed
    command = run(python, tmp_path, python.parent / "terrarium", "--list-agents")
    assert listed.startswith(command)


def test_the_tutorial_runs(python: Path, tmp_path: Path) -> None:
    """All that the page tells to type works, in order, with the code of the wheels."""
    shutil.copy(TEMPLATE / "test_my_agents.py", tmp_path)
    steps = []
    for kind, text in re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        if kind == "bash":
            steps += [(kind, line) for line in text.splitlines() if line not in INSTALLED]
        elif "class " not in text and "def " not in text:  # else a file of the package
            steps.append((kind, text))
    assert [kind for kind, _ in steps] == ["bash"] * 4 + ["python"] * 2 + ["bash"]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    (tmp_path / "runner.py").write_text(RUNNER)
    said = run(python, tmp_path, "runner.py", "steps.json")
    (answer,) = re.findall(r"^\[(-?[\d.]+)\]$", said, re.MULTILINE)
    assert abs(float(answer) + 0.1) < 0.09  # nearer than 0 is
    assert "hidden_size: 32" in said
    assert (tmp_path / "report.html").stat().st_size > 10_000
    imported = re.findall("^imported (.*)", said, re.MULTILINE)
    assert len(imported) == 5
    assert all(Path(file).is_relative_to(python.parents[1]) for file in imported)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("--agent reg", ["regression"]),
        ("--task add", ["add3x3", "adding_problem"]),
        ("--task prod", ["products"]),
        ("--mode ev", ["evaluate"]),
        ("--agent regression --see", ["--seed", "--seeds"]),
    ],
)
def test_bash_completes_names(typed: str, completed: list[str], python: Path) -> None:
    """The installed completion knows options, modes, and the names of installed packages."""
    script = python.parents[1] / "share" / "bash-completion" / "completions" / "terrarium"
    words = f"COMP_WORDS=(terrarium {typed}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))"
    call = f'_terrarium "{python.parent}/terrarium"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-euc", f"source {script}; {words}; {call}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == completed
