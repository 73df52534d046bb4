"""What a built site asks of the network, and what its links lead to outside."""

import html.parser
import re
from collections.abc import Iterator
from pathlib import Path

REMOTE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
# Attributes by which a browser loads something by itself, and those of `link` that only tell.
LOADING = {"src", "srcset", "poster", "data", "background"}
TELLING = {"canonical", "alternate", "next", "prev", "author", "license"}
STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        remote = {name for name, value in values.items() if REMOTE.match(value)}
        self.loaded |= {values[name] for name in remote & LOADING}
        self.loaded |= set(STYLE.findall(values.get("style", "")))
        if "href" in remote and tag == "a":
            self.links.add(values["href"])
        if "href" in remote and tag == "link" and values.get("rel") not in TELLING:
            self.loaded.add(values["href"])

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.loaded |= set(STYLE.findall(data))


def _pages(site: Path) -> Iterator[tuple[Path, _Page]]:
    for file in sorted(site.rglob("*.html")):
        page = _Page()
        page.feed(file.read_text(encoding="utf-8"))
        yield file, page


def loaded(site: Path) -> set[tuple[str, str]]:
    """Return what pages and style sheets load from outside: (file, address)."""
    found = {(file.name, address) for file, page in _pages(site) for address in page.loaded}
    for file in sorted(site.rglob("*.css")):
        found |= {(file.name, address) for address in STYLE.findall(file.read_text("utf-8"))}
    return found


def links(site: Path) -> set[str]:
    """Return the addresses outside to which links of pages lead."""
    return {address for _, page in _pages(site) for address in page.links}
