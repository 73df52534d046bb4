"""Page of the live view: one ES module and one style sheet, from the files of `assets`."""

import functools
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "assets"
# In this order: the parts share a scope, so that the whole is one module without imports.
SCRIPTS = (
    "basics.js", "transports.js", "drawing.js", "canvas.js", "tiles.js", "answer.js", "edits.js",
    "inspector.js", "image.js", "cells.js", "attention.js", "question.js", "plot.js",
    "snapshots.js", "run.js", "live.js",
)  # fmt: skip
STYLES = ("live.css", "run.css")


@functools.cache
def script() -> str:
    """Return the ES module, which exports `mount`, `connect` and, for anywidget, `default`."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)


@functools.cache
def style() -> str:
    """Return the style sheet."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES)


def document(title: str) -> str:
    """Return the page, whose files are beside it."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="live.css">
</head>
<body>
<main id="live" class="lv-page"><p>Connecting …</p></main>
<script type="module" src="start.js"></script>
</body>
</html>
"""


START = """import { connect, mount } from "./live.js";
mount(document.getElementById("live"), connect(new URL("socket", location.href)));
"""
