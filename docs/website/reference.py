"""Reference pages: which names are public, and the pages that mkdocstrings fills from docstrings.

What a package lists in `__all__` is public, and what PUBLIC lists besides. `visualization` has a
page for each of its subjects, with a section for each module in it that has a public name.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from docs.website import settings

ROOT = Path(__file__).parents[2]
LONG = 45  # letters of a heading, above which it is cut at a comma
FACADE = "visualization"
FIRST = ("index", "agents", "agents_by_name", "tasks", "tasks_by_name")
EXPORTING = (
    "visualization", "visualization.conv", "visualization.recurrent", "visualization.circuits",
    "visualization.diagnosis", "visualization.live", "visualization.render",
)  # fmt: skip
PUBLIC = {
    "agents": ("make", "load"),
    "agents.core.agent": ("Agent",),
    "agents.conformance": ("check_agent", "agent_checks"),
    "agents.core.config": ("AgentConfig", "with_default"),
    "agents.core.runs.history": ("History",),
    "agents.core.runs.checkpoint": (
        "CannotWriteError", "CheckpointError", "CorruptCheckpointError",
    ),
    "agents.core.runs.run_folder": ("FolderInUseError",),
    "agents.core.training.step_record": ("DivergedError",),
    "agents.core.training.optimizer": ("TorchOptimizer",),
    "agents.core.inspection.observation": ("Observation", "observe"),
    "agents.core.inspection.views": ("view",),
    "agents.core.decoding.language_model": ("NgramModel",),
    "agents.core.pages": ("PageReader",),
    "tasks": ("make",),
    "tasks.core.conformance": ("Check",),
    "tasks.conformance": ("check_task", "task_checks"),
    "tasks.core.task": ("Task", "BatchRequest"),
    "tasks.core.batch": ("Batch",),
    "tasks.core.settings": ("setting", "ConfigError", "TerrariumError"),
    "tasks.core.registry": ("Entry",),
    "tasks.handwriting.page_format": ("read_page",),
    "tasks.handwriting.page_scores": ("page_errors", "PageErrors"),
    "visualization.attention.maps": ("AttentionMaps", "attention_maps"),
    "visualization.attention.rollout": (
        "AttentionRollout", "attention_rollout", "decoder_rollout", "encoder_decoder_rollout",
    ),
    "visualization.calibration.reliability": (
        "Confidences", "Reliability", "reliability", "fit_temperature",
    ),
    "visualization.detection.detections": ("Detections", "detections"),
    "visualization.transcription.errors": (
        "Confusions", "ErrorRates", "WorstLines", "confusions", "errors_by_length",
        "errors_by_group", "worst_lines",
    ),
    "visualization.report": ("Report",),
    "visualization.attribution.relevance.rules": (
        "Epsilon", "Gamma", "AlphaBeta", "z_plus", "ZBox", "WSquare", "Flat",
    ),
}  # fmt: skip


def module_file(module: str) -> Path:
    """Return the file of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(module_file(module).read_text(encoding="utf-8"))


def defining_module(module: str, name: str) -> str:
    """Return the module that defines what another one has under a name."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return defining_module(str(node.module), name)
    return module


def exported(module: str) -> list[str]:
    """Return the names of a module's `__all__`."""
    (names,) = (
        node.value
        for node in _tree(module).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return [str(name) for name in ast.literal_eval(names)]


@cache
def public() -> dict[str, tuple[str, ...]]:
    """Return the public names of each module that defines some, in the order of the file."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, names in PUBLIC.items():
        found[module] |= set(names)
    for module in EXPORTING:
        for name in exported(module):
            found[defining_module(module, name)].add(name)
    return {module: _in_order(module, names) for module, names in sorted(found.items())}


def public_names() -> list[str]:
    """Return all public names, each with the module that defines it."""
    return [f"{module}.{name}" for module, names in public().items() for name in names]


def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module or package of the repository."""
    return module_file(name).is_file()


def _in_order(module: str, names: set[str]) -> tuple[str, ...]:
    defined: list[str] = []
    for node in _tree(module).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.append(node.name)
        if isinstance(node, ast.Assign):
            defined += [ast.unparse(target) for target in node.targets]
    missing = names - set(defined)
    assert not missing, f"{module} does not define {sorted(missing)}"
    return tuple(name for name in dict.fromkeys(defined) if name in names)


def _heading(module: str) -> str:
    """Return the first words of a module's docstring, up to a colon, a source or its end."""
    first = (ast.get_docstring(_tree(module)) or module).split("\n\n")[0].replace("\n", " ")
    words = re.split(r"[:.](?:\s|$)| \([^)]*et al", first)[0]
    return words if len(words) <= LONG else re.split(r", | \(", words)[0]


def subject(module: str) -> str:
    """Return the package whose page a module is on: a subject of `visualization`, or the whole."""
    package, *inner = module.split(".")
    has_page = package == "visualization" and inner and module_file(f"{package}.{inner[0]}").stem
    return f"{package}.{inner[0]}" if has_page == "__init__" else package


def _section(module: str, names: tuple[str, ...]) -> str:
    places = [name for name in EXPORTING if any(_exports(name, module, own) for own in names)]
    members = "".join(f"        - {name}\n" for name in names)
    return (
        f"## {_heading(module)}\n\nImport from `{(places or [module])[0]}`.\n\n"
        f"::: {module}\n    options:\n      show_root_heading: false\n"
        f"      show_root_toc_entry: false\n      members:\n{members}"
    )


def _exports(exporting: str, module: str, name: str) -> bool:
    return name in exported(exporting) and defining_module(exporting, name) == module


@cache
def pages() -> dict[str, str]:
    """Return the reference pages: their place on the site, and their Markdown."""
    sections: dict[str, list[str]] = defaultdict(list)
    for module, names in public().items():
        sections[subject(module)].append(_section(module, names))
    made = {
        _place(name): "\n\n".join([f"# {_title(name)}", _summary(name), *parts])
        for name, parts in sections.items()
    }
    return {"reference/index.md": _index(sections), **made, **settings.pages()}


def navigation() -> list[Any]:
    """Return the reference pages in the order in which they are listed."""
    first = [f"reference/{name}.md" for name in FIRST]
    subjects = sorted(
        set(pages()) - set(first), key=lambda place: ("visualization" not in place, place)
    )
    return [*first, {"Visualization": subjects}]


def _place(name: str) -> str:
    return f"reference/{name.removeprefix('visualization.')}.md"


def _title(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ").capitalize()


def _summary(name: str) -> str:
    return (ast.get_docstring(_tree(name)) or "").split("\n\n")[0]


def _index(names: Iterable[str]) -> str:
    lines = [f"- [`{name}`]({_place(name)[10:]}): {_summary(name)}" for name in names]
    return "\n".join([
        "# Reference", "",
        "What is public, from the docstrings. [Letters of shapes](../glossary.md#letters-of-shapes)"
        " are the same everywhere. Every [agent](agents_by_name.md) and every [task]"
        "(tasks_by_name.md) has a table of its settings.", "", *lines, "",
    ])  # fmt: skip
