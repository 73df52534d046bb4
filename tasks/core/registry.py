"""Registries: names and patterns of names, imported only when one of them is used."""

import importlib
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import attrs

from tasks.core.entry_points import InstalledClass, installed_classes
from tasks.core.settings import ConfigError, nearest


@attrs.frozen
class Entry:
    """Registry entry: module and name of a class, and a summary of one line.

    A name may be a pattern: `add<digits>x<terms>` matches add2x2, add3x3, …, and sets the integer
    fields `digits` and `terms` of the class. `example` is then a name that matches. `fields` are
    other settings that the name determines.

    An agent may read the files of another tool: `aliases` are that tool's names for settings, such
    as `dataset.t` for `task.length`. Such a file is about the task `task`, and its settings have
    the defaults `alias_defaults`. `config` is the module and class of an agent's settings, as
    `module:class`, where they can be had without importing the agent, and torch with it.

    The entry of another package has that package as its `source`, such as `my-agents 0.1`, and
    `base`, the class that its class must extend, as `module:class`. `rivals` are the packages that
    have this name too, if there are any: then the name means none of them.
    """

    module: str
    cls: str
    summary: str
    example: str = ""
    fields: Mapping[str, object] = attrs.Factory(dict)
    task: str = ""
    aliases: Mapping[str, str] = attrs.Factory(dict)
    alias_defaults: Mapping[str, object] = attrs.Factory(dict)
    config: str = ""
    source: str = ""
    base: str = ""
    rivals: tuple[str, ...] = ()


@attrs.frozen
class ResolvedEntry:
    """Registry entry of a name, and the fields that the name determines."""

    name: str
    entry: Entry
    fields: dict[str, object]

    def load(self) -> Any:
        """Import the module and return the class.

        Raises:
            ConfigError: the class of another package cannot be imported, or is of another kind.
        """
        if not self.entry.source:
            return _import(self.entry.module, self.entry.cls)
        if self.entry.rivals:
            packages = " and ".join((self.entry.source, *self.entry.rivals))
            accepted = "a name that one installed package has"
            raise ConfigError(packages, "", f"both have the name {self.name!r}", accepted)
        return self._load_installed()

    def _load_installed(self) -> Any:
        module, name = self.entry.module, self.entry.cls
        try:
            cls = _import(module, name)
        except Exception as error:
            problem = f"{self.name!r} cannot be imported: {type(error).__name__}: {error}"
            accepted = f"a class {name} in the module {module}"
            raise ConfigError(self.entry.source, "", problem, accepted) from error
        base = _import(*self.entry.base.split(":"))
        if not (isinstance(cls, type) and issubclass(cls, base)):
            problem = f"{self.name!r} is {module}:{name}, which is no {base.__name__}"
            accepted = f"a class that extends {base.__module__}.{base.__name__}"
            raise ConfigError(self.entry.source, "", problem, accepted)
        return cls

    def load_config(self) -> Any:
        """Import an agent's config class, without the agent where its entry says where it is."""
        module, _, cls = self.entry.config.partition(":")
        return _import(module, cls) if module else self.load().Config

    def makes(self, cls: type) -> bool:
        """Return whether this is the name of a class; no entry that cannot be imported is."""
        try:
            return self.load() is cls
        except ConfigError:
            return False

    def check_name(self, own: str) -> None:
        """Check that what the class of another package makes has this name, as its files say it."""
        if self.entry.source and own != self.name:
            problem = f"{self.name!r} makes something with the name {own!r}"
            accepted = f"a class with the name {self.name!r}, by which a run is made again"
            raise ConfigError(self.entry.source, "", problem, accepted)


class Registry(MutableMapping[str, Entry]):
    """Registry entries by name: the project's own, and after them those of installed packages.

    Packages are searched when a name is not the project's own, or when all names are asked for; so
    a package cannot replace a name of the project, and costs nothing where it is not used.
    """

    def __init__(self, kind: str, base: str, entries: Mapping[str, Entry]) -> None:
        """Make a registry of a kind, "agent" or "task", whose classes extend `module:class`."""
        self.kind, self.base = kind, base
        self._own = dict(entries)
        self._installed: dict[str, Entry] | None = None

    def __getitem__(self, name: str) -> Entry:
        return self._own[name] if name in self._own else self.installed()[name]

    def __iter__(self) -> Iterator[str]:
        yield from list(self._own)
        yield from (name for name in self.installed() if name not in self._own)

    def __len__(self) -> int:
        return len({**self.installed(), **self._own})

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._own[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def installed(self) -> Mapping[str, Entry]:
        """Return the entries of installed packages; they are searched once in a process."""
        if self._installed is None:
            found: dict[str, list[InstalledClass]] = {}
            for each in installed_classes(self.kind, self._own):
                found.setdefault(each.name, []).append(each)
            self._installed = {name: self._entry(*classes) for name, classes in found.items()}
        return self._installed

    def _entry(self, first: InstalledClass, *rivals: InstalledClass) -> Entry:
        packages = tuple(rival.package for rival in rivals)
        summary = f"{first.module}:{first.cls}, of the package {first.package}"
        if packages:
            summary = f"cannot be used: {' and '.join((first.package, *packages))} have this name"
        return Entry(
            first.module, first.cls, summary,
            source=first.package, base=self.base, rivals=packages,
        )  # fmt: skip


def _import(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def pattern_of(name: str) -> re.Pattern[str]:
    """Return the regular expression of a name, or of a pattern such as `add<digits>x<terms>`.

    Raises:
        re.error: a pattern has two numbers with one name.
    """
    return re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[1-9][0-9]*)", re.escape(name)))


def look_up(name: object, entries: Mapping[str, Entry]) -> ResolvedEntry | None:
    """Look a name up; None if it is unknown."""
    for pattern, entry in entries.items():
        match = pattern_of(pattern).fullmatch(str(name))
        if match:
            numbers = {k: int(v) for k, v in match.groupdict().items()}
            return ResolvedEntry(str(name), entry, {**entry.fields, **numbers})
    return None


def find(kind: str, name: object, entries: Mapping[str, Entry], place: str) -> ResolvedEntry:
    """Look a name up; an unknown one is a ConfigError with all names and the nearest one."""
    resolved = look_up(name, entries)
    if resolved is not None:
        return resolved
    examples = [entry.example or pattern for pattern, entry in entries.items()]
    names = ", ".join(entries)
    raise ConfigError(place, kind, f"unknown {kind} {name!r}", names, nearest(name, examples))
