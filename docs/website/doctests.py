"""Doctests of docstrings as blocks of code, for griffe, which reads docstrings for mkdocstrings."""

import re
from typing import Any

from griffe import Extension, Object

# An example begins at a prompt, and ends at an empty line.
EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*", re.MULTILINE)


def fenced(docstring: str) -> str:
    """Return a docstring in which each doctest is a block of code, instead of a quotation."""
    return EXAMPLE.sub(lambda example: f"```pycon\n{example[0].rstrip()}\n```\n", docstring)


class Doctests(Extension):
    """Extension of griffe that fences the doctests of every object that is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
