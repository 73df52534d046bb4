"""Pages of the documentation, and the code on them.

A comment before a block of Python says how the tests run it, where it is not run as it is:

    <!-- test: skip, REASON -->                     the next block is not run
    <!-- test: replace `A` by `B`, `C` by `D` -->    smaller sizes, or files that exist, in the next
    <!-- test: run
    CODE                                            code that readers do not see: what a page
    -->                                             takes for granted, or a check of a result
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
HIDDEN = "for tests"  # language of code that readers do not see
PARTS = re.compile(
    r"^<!-- test: (?P<word>skip|replace|run)\b(?P<text>.*?)-->$"
    r"|^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Code of a page, as a test runs it."""

    line: int  # of the page, from 1
    language: str
    code: str
    skipped: str = ""  # the reason why it is not run


def name_of(page: Path) -> str:
    """Return a page's path from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, what only tests run among them.

    Raises:
        ValueError: a block does not have what is to be replaced in it.
    """
    text, found = page.read_text(encoding="utf-8"), []
    replacements: list[tuple[str, str]] = []
    reason = ""
    for part in PARTS.finditer(text):
        line = text[: part.start()].count("\n") + 2
        if part["word"] == "skip":
            reason = part["text"].strip(" ,\n")
        elif part["word"] == "replace":
            replacements = re.findall(r"`([^`]+)` by\s+`([^`]+)`", part["text"])
        elif part["word"] == "run":
            found.append(Block(line, HIDDEN, part["text"]))
        else:
            code = part["code"]
            for old, new in replacements:
                if old not in code:
                    raise ValueError(f"{name_of(page)}, line {line}: no {old!r} to replace")
                code = code.replace(old, new)
            found.append(Block(line, part["language"], code, reason))
            replacements, reason = [], ""
    return found
