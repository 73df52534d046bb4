"""The page of errors: the table, and the worst lines and pages of each row as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.reading.errors import differences
from benchmarks.reading.scores import Score
from benchmarks.reading.tables import COLUMNS, TO_THE_LEFT

_TITLE = "Readers: scores and worst errors"


def page(scores: Sequence[Score], reasons: Mapping[str, str]) -> str:
    """Return the page in HTML, which needs no other file.

    Args:
        scores: of all rows.
        reasons: why recipes are not in the table, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    rows = [[write(score) for write in COLUMNS.values()] for score in scores]
    return environment.get_template("errors.html.jinja").render(
        title=_TITLE, columns=list(COLUMNS), rows=rows, reasons=reasons,
        numbers=[at for at, name in enumerate(COLUMNS) if name not in TO_THE_LEFT],
        sections=[_section(number, score) for number, score in enumerate(scores)],
    )  # fmt: skip


def _section(number: int, score: Score) -> dict[str, Any]:
    is_lines = "cer" in score.values
    decoder = f", {score.decoder}" if score.decoder else ""
    return {
        "anchor": f"row-{number}",
        "title": f"{score.data}, {score.split}: {score.recipe}{decoder}",
        "kind": "edits" if is_lines else "boxes missing or too many",
        "errors": [
            {
                "name": error.name, "num": error.num, "picture": error.picture,
                **dict(zip(("read", "right"), differences(error.read, error.right), strict=True)),
            }
            for error in score.worst
        ],
    }  # fmt: skip
