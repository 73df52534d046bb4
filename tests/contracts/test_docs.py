"""What the pages tell a reader to type does what they say."""

import re
import runpy
from pathlib import Path

import pytest

from agents.core.agent import Agent
from tasks.core.task import Task
from tests.helpers.pages import PAGES, ROOT


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom() -> None:
    """Its cells are those of its script, run in order without an error, and end with its pages."""
    import nbformat  # which takes seconds

    script = runpy.run_path(str(ROOT / "docs" / "convolutional_notebook.py"))
    made = script["notebook"]()
    kept = nbformat.read(ROOT / "docs" / "convolutional.ipynb", as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in made.cells]
    done = script["run"](made)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = [out.get("data", {}).get("text/html", "") for cell in code for out in cell.outputs]
    assert sum("data:image/png" in page for page in shown) >= 9


def anchors(page: Path) -> set[str]:
    """Return the addresses of a page's headings, as they are made from their words."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """Every link of a page to another, and to a heading in it, leads to one that is there."""
    pages = [*PAGES, ROOT / "benchmarks" / "README.md"]
    links = [
        (page, *target.partition("#")[::2])
        for page in pages
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", page.read_text())
        if "://" not in target
    ]
    assert len(links) > 20
    for page, path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), (page.name, path)
        assert not anchor or anchor in anchors(target), (page.name, path, anchor)


def test_pictures_of_the_pages_are_there() -> None:
    """Every picture that a page shows is in the repository, and every picture there is shown."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r"!\[[^\]]*\]\(([^)#]+)\)", page.read_text())
    }
    assert all(path.exists() for path in shown), [p for p in shown if not p.exists()]
    assert shown == set((ROOT / "docs" / "pictures").resolve().iterdir())


@pytest.mark.parametrize("contract", [Task, Agent])
def test_the_page_on_extending_names_every_abstract_member(contract: type) -> None:
    """Who writes a task or an agent after docs/extending.md has left nothing abstract."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`|def \w+|reply = ", page))))
    assert contract.__abstractmethods__ - named == set()
