"""Registries: names and patterns of names, imported only when one of them is used."""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import attrs

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


@attrs.frozen
class ResolvedEntry:
    """Registry entry of a name, and the fields that the name determines."""

    name: str
    entry: Entry
    fields: dict[str, object]

    def load(self) -> Any:
        """Import the module and return the class."""
        return getattr(importlib.import_module(self.entry.module), self.entry.cls)

    def load_config(self) -> Any:
        """Import an agent's config class, without the agent where its entry says where it is."""
        module, _, cls = self.entry.config.partition(":")
        return getattr(importlib.import_module(module), cls) if module else self.load().Config


def look_up(name: object, entries: Mapping[str, Entry]) -> ResolvedEntry | None:
    """Look a name up; None if it is unknown."""
    for pattern, entry in entries.items():
        match = re.fullmatch(re.sub(r"<(\w+)>", r"(?P<\1>[1-9][0-9]*)", pattern), str(name))
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
