"""The rules of the house that a reader of the code relies on."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "tasks", "visualization")
FILES = [ROOT / "main.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it."""
    return {name.split(".")[0] for name in imported_names(path)}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a file, but what is there for a type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from executed(node)


def imported_names(path: Path) -> set[str]:
    """Return the whole names of what a file imports, such as `agents.cli.run_spec.warn`."""
    found = set()
    for node in executed(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path, module: str) -> bool:
    """Tell whether a file imports a module, or something of it."""
    return any(f"{name}.".startswith(f"{module}.") for name in imported_names(path))


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


# Each may import those before it, and itself.
FLOORS = {
    "visualization": (
        "core", "records", "model", "representation", "attribution", "attention", "adversarial",
        "synthesis", "detection", "calibration", "transcription", "circuits", "feature_maps",
        "perturbation", "recurrent", "diagnosis", "sweeps", "live", "conv", "figures", "render",
        "renderers", "report", "notebook",
    ),
    "agents": (
        "core.config", "configs", "core.version", "core.earlier_names", "core.protocol",
        "core.layers", "core.line_encoder", "core.line_augmentation", "core.torchvision_models",
        "core.decoding", "core.runs", "core.training", "core.inspection", "core.export",
        "core.agent", "core.seq2seq", "core.classification", "core.sets", "core.detection",
        "core.reading", "core.pages", "core.analysis", "core.sweeps", "cli",
    ),
}  # fmt: skip


def floor(package: str, name: str) -> int | None:
    """Return the number of the floor on which a module, by its whole name, is."""
    for number, part in enumerate(FLOORS[package]):
        if f"{name}.".startswith(f"{package}.{part}."):
            return number
    return None


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_down(package: str) -> None:
    """A sub-package imports those below it alone, so that there is no circle among them."""
    for path in (ROOT / package).rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        own = floor(package, module)
        if own is None:  # an agent, or the package itself
            continue
        above = {name for name in imported_names(path) if (floor(package, name) or 0) > own}
        assert not above, path


def test_every_sub_package_has_its_floor() -> None:
    """What is new in the house is put somewhere: no part of it escapes the rule."""
    for package, inner in (("visualization", ""), ("agents", "core/")):
        for path in (ROOT / package / inner).iterdir():
            is_part = path.suffix == ".py" or (path / "__init__.py").exists()
            if is_part and path.stem != "__init__":
                name = ".".join([package, *inner.rstrip("/").split("/"), path.stem])
                assert floor(package, name.replace("..", ".")) is not None, path


def test_the_command_line_is_imported_by_nothing_below_it() -> None:
    """What reads options is imported by itself and by main alone."""
    importing = {path for path in FILES if imports(path, "agents.cli")}
    assert importing
    assert importing <= {ROOT / "main.py", *(ROOT / "agents" / "cli").glob("*.py")}


@pytest.mark.parametrize("package", ["agents", "tasks"])
def test_the_core_imports_no_agent_and_no_task(package: str) -> None:
    """What agents and tasks are built from knows none of them: a registry names them."""
    folder = ROOT / package
    modules = [f"{package}.{path.stem}" for path in folder.glob("*.py") if path.stem[0] != "_"]
    assert modules
    for path in (folder / "core").rglob("*.py"):
        assert not [module for module in modules if imports(path, module)], path


def test_only_parallel_names_the_wrappers() -> None:
    """DataParallel is named in code only where models are wrapped."""
    for path, tree in TREES.items():
        nodes = list(ast.walk(tree))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {a.name for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
        wrappers = {name for name in names if name.endswith("DataParallel")}
        assert path.name == "parallel.py" or not wrappers, path


def test_only_figures_draw() -> None:
    """Matplotlib is imported by figures, and by what they share, alone."""
    names = ("arranging", "legible", "pictures", "pixels", "registry", "style", "tiles", "words")
    shared = {f"visualization/core/{name}.py" for name in names}
    for path in FILES:
        if "matplotlib" in imported(path):
            place = path.relative_to(ROOT).as_posix()
            assert "figures" in place or place in shared, path


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
