"""Pages of the site from files of the repository, and the links between them.

A page of docs/ is written for the repository's own view, where its links lead to files: to other
pages, to the README, to code. On the site each file that a link leads to has a page: Markdown as it
is, code as a listing, a notebook cell by cell, a folder as the list of its files.
"""

import ast
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(\[[^\]]*\]\()([^)#\s]*)((?:#[^)\s]*)?\))")
CODE = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)
FOR_TESTS = re.compile(r"^<!-- test: .*?-->\n\n?", re.MULTILINE | re.DOTALL)
UNSEARCHED = (
    "---\nsearch:\n  exclude: true\n---\n"  # code, which would hide the pages that explain it
)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cfg": "ini", ".toml": "toml"}


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return a page with the text between its blocks of code changed."""
    parts, end = [], 0
    for block in CODE.finditer(markdown):
        parts += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(markdown[end:])])


def targets(markdown: str) -> list[str]:
    """Return what the links and pictures of a page lead to, without anchors, as it is written."""
    found: list[str] = []
    outside_code(markdown, lambda text: (found.extend(m[2] for m in LINK.finditer(text)), text)[1])
    return found


def repository_path(page: str, link: str) -> str | None:
    """Return the file, from the repository's root, that a link of a file leads to, if it does."""
    if not link or re.match(r"[a-z]+:", link):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if (ROOT / path).exists() else None


def site_path(path: str) -> str:
    """Return the place, in the site's sources, of a file or folder of the repository."""
    if path in NAMES:
        return NAMES[path]
    place = path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"
    if (ROOT / path).is_dir():
        return f"{place}/index.md"
    return place if place.startswith("pictures/") or place.endswith(".md") else f"{place}.md"


def with_site_links(markdown: str, page: str) -> str:
    """Return a page's Markdown with each link to a file of the repository led to that on the site.

    What only tests read is left out.

    Args:
        markdown: as it is in the repository.
        page: the file that it is of, from the repository's root.
    """
    here = posixpath.dirname(site_path(page)) or "."

    def led(link: re.Match[str]) -> str:
        path = repository_path(page, link[2])
        target = link[2] if path is None else posixpath.relpath(site_path(path), here)
        return f"{link[1]}{target}{link[3]}"

    return outside_code(markdown, lambda text: LINK.sub(led, FOR_TESTS.sub("", text)))


def rendered(path: str) -> str:
    """Return the Markdown of the page that shows a file or folder of the repository."""
    file = ROOT / path
    if file.is_dir():
        return f"{UNSEARCHED}# `{path}/`\n\n" + "".join(f"- {line}\n" for line in _listing(file))
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return with_site_links(text, path)
    if file.suffix == ".ipynb":
        return with_site_links(_cells(text), path)
    language = LANGUAGES.get(file.suffix, "text")
    return f"{UNSEARCHED}# `{path}`\n\n````{language}\n{text.rstrip()}\n````\n"


def _listing(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*.py")):
        summary = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")
        yield f"`{file.name}`: {summary[0]}"


def _cells(notebook: str) -> str:
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"])
    parts = [f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells]
    return "\n\n".join(parts)


def pages() -> dict[str, str]:
    """Return every page that the site has of the repository: its place there, and the file."""
    names = ["README.md", "CHANGELOG.md"]
    names += [f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))]
    found: dict[str, str] = {}
    while names:
        path = names.pop(0)
        if site_path(path) in found:
            continue
        found[site_path(path)] = path
        if path.endswith((".md", ".ipynb")):
            linked = (repository_path(path, link) for link in targets(rendered_source(path)))
            names += [p for p in linked if p and not p.startswith("docs/pictures/")]
    return found


def rendered_source(path: str) -> str:
    """Return the Markdown of a file of the repository, with the links that it has there."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return _cells(text) if path.endswith(".ipynb") else text
