"""Registries: names and patterns of names, imported only when one of them is asked for."""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import attrs

from tasks.core.settings import ConfigError, nearest


@attrs.frozen
class Entry:
    """Where a registered class lives, and one line about it.

    A name may be a pattern: `add<digits>x<terms>` stands for add2x2, add3x3, …, and gives the class
    the integer fields `digits` and `terms`. `example` is then a name that fits.
    """

    module: str
    cls: str
    line: str
    example: str = ""


@attrs.frozen
class Found:
    """A looked-up entry, and the fields that the name itself gave."""

    name: str
    entry: Entry
    fields: dict[str, int]

    def load(self) -> Any:
        """Import the module and return the class."""
        return getattr(importlib.import_module(self.entry.module), self.entry.cls)


def find(kind: str, name: object, entries: Mapping[str, Entry], place: str) -> Found:
    """Look a name up; an unknown one is a ConfigError with all names and the nearest."""
    for pattern, entry in entries.items():
        match = re.fullmatch(re.sub(r"<(\w+)>", r"(?P<\1>[1-9][0-9]*)", pattern), str(name))
        if match:
            return Found(str(name), entry, {k: int(v) for k, v in match.groupdict().items()})
    examples = [entry.example or pattern for pattern, entry in entries.items()]
    known = ", ".join(entries)
    raise ConfigError(place, kind, f"{name!r} is not known", known, nearest(name, examples))
