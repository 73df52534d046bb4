"""The site: what its pages are made of, what they load, and that it can be built and searched."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from docs import house
from docs.website import doctests, outside, pages, reference, settings
from tests.helpers.browser import chromium
from tests.helpers.pages import PAGES, ROOT, blocks

PACKAGES = ("agents", "tasks", "visualization")


def test_the_picture_of_the_house_is_that_of_the_code() -> None:
    """The picture shows the imports as they are: `python docs/house.py` makes it again."""
    assert house.PICTURE.read_text(encoding="utf-8") == house.drawing()


def test_imports_that_follow_from_others_are_not_drawn() -> None:
    """Of a → b → c and a → c the last is left out; a → d stays."""
    a, b, c, d = (house.Room("tasks", (name,)) for name in "abcd")
    edges = {a: {b, c, d}, b: {c}, c: set(), d: set()}
    assert house.reduced(edges) == {a: {b, d}, b: {c}, c: set(), d: set()}
    assert house.ranks(house.reduced(edges)) == {a: 0, b: 1, c: 2, d: 1}


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/using.md", "[a](live.md)", "[a](live.md)"),
        ("docs/using.md", "[a](../README.md#where-next)", "[a](index.md#where-next)"),
        ("README.md", "[a](docs/using.md#settings)", "[a](using.md#settings)"),
        ("README.md", "![a](docs/pictures/curves.png)", "![a](pictures/curves.png)"),
        ("README.md", "[a](docs/convolutional.ipynb)", "[a](convolutional.ipynb.md)"),
        ("docs/using.md", "[a](../configs/adding.yaml)", "[a](source/configs/adding.yaml.md)"),
        ("docs/using.md", "[a\nb](../tasks/core/)", "[a\nb](source/tasks/core/index.md)"),
        ("benchmarks/README.md", "[a](../docs/live.md)", "[a](../../live.md)"),
        ("docs/using.md", "[a](https://example.org/live.md)", "[a](https://example.org/live.md)"),
        ("docs/using.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
        ("docs/using.md", "<!-- test: skip, hours -->\n\n```\na\n```", "```\na\n```"),
        ("docs/using.md", "```\n<!-- test: run -->\n```", "```\n<!-- test: run -->\n```"),
    ],
)
def test_links_of_the_repository_lead_to_pages(page: str, link: str, expected: str) -> None:
    """A link to a file, anywhere in the repository, leads to the page that shows it."""
    assert pages.with_site_links(link, page) == expected


def test_doctests_are_blocks_of_code() -> None:
    """An example ends at an empty line; text around it stays."""
    text = "Sum.\n\n>>> 1 + 1\n2\n\nMore.\n"
    assert doctests.fenced(text) == "Sum.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore.\n"


def test_what_a_page_loads_from_outside_is_found(tmp_path: Path) -> None:
    """Scripts, pictures, fonts and styles of other machines are; links and own files are not."""
    page = """<link rel="stylesheet" href="//a.org/s.css"><script src="own.js"></script>
    <link rel="canonical" href="https://b.org/"><img src="https://c.org/i.png">
    <a href="https://d.org/page">d</a><style>@import "https://e.org/f.css";</style>
    <p style="background: url(https://f.org/g.png)">text https://g.org</p>"""
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "own.css").write_text("@font-face { src: url('https://h.org/i.woff2') }")
    addresses = {address for _, address in outside.loaded(tmp_path)}
    assert {re.sub(r"(https:)?//(\w)\.org.*", r"\2", address) for address in addresses} == set(
        "acefh"
    )
    assert outside.links(tmp_path) == {"https://d.org/page"}


def imported(page: Path) -> set[tuple[str, str]]:
    """Return what the examples of a page import from the packages: (module, name)."""
    code = "\n".join(block.code for block in blocks(page) if block.language == "python")
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    pairs = {(str(node.module), alias.name) for node in nodes for alias in node.names}
    return {(module, name) for module, name in pairs if module.split(".")[0] in PACKAGES}


def test_what_pages_import_is_in_the_reference() -> None:
    """Each function or class that an example imports has an entry in the reference."""
    shown = set(reference.public_names())
    for page in PAGES:
        for module, name in imported(page):
            if not reference.is_module(f"{module}.{name}") and not name.isupper():
                entry = f"{reference.defining_module(module, name)}.{name}"
                assert entry in shown, (page.name, entry)


def test_every_agent_and_task_has_its_settings_in_the_reference() -> None:
    """A table has each setting with default, accepted values and help, and no other."""
    by_name = settings.pages()
    table = by_name["reference/agents_by_name.md"]
    assert "| `hidden_size` | 128 | an integer ≥ 1 |" in table.split("## seq2seq_adder")[1]
    assert "| `seed` | 0 | an integer ≥ 0 and &lt; 2147483648 |" in table
    assert "| `length` |" in by_name["reference/tasks_by_name.md"].split("## adding_problem")[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make site` does; any warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_every_link_leads_somewhere(site: Path) -> None:
    """Each page of docs/ is built, and each link and anchor of the site is there."""
    texts = {file: file.read_text(encoding="utf-8") for file in site.rglob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {file.stem for file in texts}
    ids = {file: set(re.findall(r'\bid="([^"]+)"', text)) for file, text in texts.items()}
    for file, text in texts.items():
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text):
            path, _, anchor = link.partition("#")
            target = (file.parent / unquote(path)).resolve() if path else file
            if not re.match(r"[a-z]+:", link) and file.name != "404.html":
                assert target.exists(), (file.name, link)
                assert not anchor or unquote(anchor) in {*ids[target], "__top"}, (file.name, link)


def test_the_site_is_read_and_searched_without_a_network(site: Path) -> None:
    """Opened from its folder, the site asks for its own files alone, and finds a word."""
    with chromium("--allow-file-access-from-files") as driver:
        for page in ("index.html", "recurrent.html", "design.html", "reference/attribution.html"):
            driver.get((site / page).as_uri())
        driver.find_element(By.CSS_SELECTOR, ".md-search__input").send_keys("Grad-CAM")
        results = ".md-search-result__item a"
        WebDriverWait(driver, 30).until(lambda d: d.find_elements(By.CSS_SELECTOR, results))
        found = [a.get_attribute("href") for a in driver.find_elements(By.CSS_SELECTOR, results)]
        assert any("attribution.html" in str(address) for address in found)
        messages = [
            json.loads(entry["message"])["message"] for entry in driver.get_log("performance")
        ]
        addresses = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
    assert len(addresses) > 10
    assert [
        address for address in addresses if not address.startswith(("file:", "data:", "blob:"))
    ] == []
