"""Entry points: the agents and tasks that installed packages add, found without importing them.

A package names its classes in its `pyproject.toml`:

    [project.entry-points."terrarium.agents"]
    my_agent = "my_package.my_agent:MyAgent"

    [project.entry-points."terrarium.tasks"]
    "my_task<size>" = "my_package.my_task:MyTask"

The format is that of https://packaging.python.org/specifications/entry-points.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from importlib.metadata import PathDistribution

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"\w[\w.-]*(<[a-z]\w*>[\w.-]*)*")  # which can be the name of a run's folder
_VALUE = re.compile(r"([\w.]+)\s*:\s*(\w+)\s*(\[.*\])?")
_FOLDERS = (".dist-info", ".egg-info")  # as pip leaves them, and setuptools in an editable one


@attrs.frozen(kw_only=True)
class InstalledClass:
    """A class that an installed package names: what it is called, where it is, whose it is."""

    name: str
    module: str
    cls: str
    package: str  # with its version


def installed_classes(kind: str, taken: Collection[str]) -> Iterator[InstalledClass]:
    """Yield the classes that installed packages name for a kind, "agent" or "task".

    What cannot be used is left out with a warning: a damaged file, a name that cannot be one, and
    one of `taken`, the names that the project itself has.
    """
    seen = set()
    for package, distribution in _distributions(f"terrarium.{kind}s"):
        normalised = re.sub(r"[-_.]+", "-", package.rpartition(" ")[0]).lower()
        if normalised in seen:
            continue  # Python imports the one that is first on its path
        seen.add(normalised)
        for name, value in _named(distribution, f"terrarium.{kind}s", package):
            match = _VALUE.fullmatch(value)
            numbers = re.findall(r"<(\w+)>", name)
            if name in taken:
                _warn(package, f"{kind} {name!r} is not used: Terrarium itself has that name")
            elif not _NAME.fullmatch(name) or len(set(numbers)) < len(numbers):
                _warn(package, f"{kind} {name!r} is not used: a name has letters, digits, _ - .")
            elif match is None:
                _warn(package, f"{kind} {name!r} is not used: {value!r} is not module:class")
            else:
                yield InstalledClass(name=name, module=match[1], cls=match[2], package=package)


def _distributions(group: str) -> Iterator[tuple[str, "PathDistribution"]]:
    """Yield name and metadata of packages that name something in a group, by order of `sys.path`.

    Only their files are parsed: importing importlib.metadata takes as long as listing all names.
    """
    for folder in dict.fromkeys(sys.path):
        for name in sorted(_names_in(folder)):
            path = Path(folder, name, "entry_points.txt")
            try:
                is_ours = group.encode() in path.read_bytes()
            except OSError:  # it has none, or may not be read
                continue
            if is_ours:
                from importlib.metadata import PathDistribution

                distribution = PathDistribution(path.parent)
                yield _name_and_version(distribution, name), distribution


def _name_and_version(distribution: "PathDistribution", folder: str) -> str:
    """Return what a package calls itself, or what its folder is called if metadata are damaged."""
    with contextlib.suppress(Exception):  # importlib.metadata has none of its own for this
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        if name and version:
            return f"{name} {version}"
    return folder.rpartition(".")[0].replace("-", " ")


def _names_in(folder: str) -> list[str]:
    """Return the folders of metadata in a folder; none in an archive, or what does not exist."""
    try:
        with os.scandir(folder or ".") as entries:  # glob takes twice as long in all
            return [each.name for each in entries if each.name.endswith(_FOLDERS)]
    except OSError:
        return []


def _named(distribution: "PathDistribution", group: str, package: str) -> Iterator[tuple[str, str]]:
    """Yield names and values in a group of a package's entry points."""
    try:
        points = list(distribution.entry_points.select(group=group))
    except Exception as error:  # importlib.metadata has none of its own for a damaged file
        _warn(package, f"its entry points cannot be read: {type(error).__name__}: {error}")
        return
    yield from ((point.name, point.value) for point in points)


def _warn(package: str, problem: str) -> None:
    _LOG.warning(f"terrarium: package {package}: {problem}")
