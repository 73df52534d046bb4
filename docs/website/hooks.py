"""Hooks of mkdocs: pages from outside docs/, reference pages, links, and what is asked of outside.

`mkdocs.yml` names this file; `make site` runs it.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2]))  # mkdocs loads this file by its path

from docs.website import outside, pages, reference

log = logging.getLogger("mkdocs.hooks")


def on_config(config: Any) -> Any:
    """Put the reference pages into the navigation, and pages that it lacks at its end."""
    nav = [
        {"Reference": reference.navigation()} if entry == {"Reference": "reference"} else entry
        for entry in config.nav
    ]
    named = str(nav)
    more = [name for name in pages.pages() if "/" not in name and repr(name) not in named]
    config.nav = [*nav, {"More": more}] if more else nav
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made: of files outside docs/, and of docstrings."""
    made = {place: pages.rendered(path) for place, path in pages.pages().items()}
    for place, text in {**made, **reference.pages()}.items():
        present = files.get_file_from_path(place)
        if present is not None:
            files.remove(present)
        files.append(File.generated(config, place, content=text))
    return files


def on_post_build(config: Any) -> None:
    """List the links that leave the site, and fail if a page loads anything from outside."""
    site = Path(config.site_dir)
    loaded = outside.loaded(site)
    if loaded:
        raise PluginError("pages load from outside: " + "; ".join(map(str, sorted(loaded))))
    for link in sorted(outside.links(site)):
        log.info("a link leads outside: %s", link)
