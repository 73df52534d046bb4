"""Installed packages for tests: a folder that holds modules and metadata as pip leaves them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

import agents
import tasks
from tasks.core.registry import Registry


def install(folder: Path, name: str, points: str, modules: Mapping[str, str] | None = None) -> None:
    """Put a package of version 1.0 there, with the text of its entry points and its modules."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    for module, text in (modules or {}).items():
        (folder / f"{module}.py").write_text(text)


def search(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let registries search these folders too, as at the start of a process."""
    for folder in reversed(folders):
        monkeypatch.syspath_prepend(str(folder))
    for package, name, old in ((agents, "AGENTS", agents.AGENTS), (tasks, "TASKS", tasks.TASKS)):
        own = agents.OWN_AGENTS if package is agents else tasks.OWN_TASKS
        monkeypatch.setattr(package, name, Registry(old.kind, old.base, own))
