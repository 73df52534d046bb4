"""Records as interactive parts of a page: HTML with its own style and script, no network."""

import functools
import re
from collections.abc import Iterator
from typing import Any


def anchor(name: str) -> str:
    """Return the address, within a page, of a section that is named so."""
    return re.sub(r"[^\w@.-]+", "-", name.replace(",", ""))


@functools.singledispatch
def fragment(record: Any) -> str:
    """Return the interactive form of a record as HTML, "" where there is only a figure."""
    return ""


@functools.singledispatch
def subpages(record: Any, report: str) -> Iterator[tuple[str, str]]:
    """Yield the pages of their own that a record has: address from the report's folder, and HTML.

    `report` is the file name of the report, to which they lead back.
    """
    yield from ()
