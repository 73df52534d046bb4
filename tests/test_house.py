"""The rules of the house that a reader of the code relies on."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "tasks", "visualization")
FILES = [ROOT / "main.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("tasks", {"agents", "visualization", "main", "torch"}),
        ("visualization", {"agents", "tasks", "main"}),
        ("agents", {"main"}),
    ],
)
def test_imports_run_one_way(package: str, forbidden: set[str]) -> None:
    """Imports run main → agents → tasks and visualization, and tasks need no torch."""
    for path in (ROOT / package).rglob("*.py"):
        assert not imported(path) & forbidden, path


def test_only_parallel_names_the_wrappers() -> None:
    """DataParallel is named in code only where models are wrapped."""
    for path, tree in TREES.items():
        nodes = list(ast.walk(tree))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
        wrappers = {name for name in names if name.endswith("DataParallel")}
        assert path.name == "parallel.py" or not wrappers, path


def test_only_render_draws() -> None:
    """Matplotlib is imported by the render package alone."""
    drawing = ROOT / "visualization" / "render"
    users = {drawing in path.parents for path in FILES if "matplotlib" in imported(path)}
    assert users == {True}


def test_nothing_unpickles() -> None:
    """No module imports pickle, and torch.load stands nowhere."""
    for path in FILES:
        assert "pickle" not in imported(path), path
        assert not re.search(r"torch\.load\(|np\.load\(", path.read_text()), path


def test_sizes_stay_readable() -> None:
    """Main has fewer than 100 lines, modules at most 400, functions at most 60."""
    assert len((ROOT / "main.py").read_text().splitlines()) < 100
    for path, tree in TREES.items():
        assert len(path.read_text().splitlines()) <= 400, path
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 60, (path, node.name)


def test_no_capability_is_guessed() -> None:
    """Hasattr stands nowhere: what an object can do is its contract."""
    for path, tree in TREES.items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert "hasattr" not in names, path


@pytest.mark.parametrize(
    "arguments",
    [
        "--help", "--version", "--list-agents", "--list-tasks",
        "--agent seq2seq_adder --task add3x3 --print-config",
        "--agent seq2seq_adder --task add3x3 --set hiden_size=3",
    ],
)  # fmt: skip
def test_quick_answers_import_no_torch(arguments: str) -> None:
    """Questions about names and settings are answered without importing torch."""
    code = (
        "import sys, main\n"
        "try: main.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
