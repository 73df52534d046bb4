"""Text heat map as an interactive, searchable page (Karpathy et al. 2015; LSTMVis).

The arrays travel as int8 in base64, a quarter of float32, with the scale of every unit beside them.
"""

import base64
import json
import math
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error
from visualization.core.pixels import data_uri, image_colors
from visualization.core.registry import fragment
from visualization.recurrent.overlay import Column, LayerHeatmap, UnitTextHeatmap

FOLDER = Path(__file__).parent
SCRIPTS = ("overlay_basics.js", "overlay_matches.js", "overlay.js")  # in this order
LEVELS = 127  # of an int8, on either side of zero


@fragment.register
def _(record: UnitTextHeatmap) -> str:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True)
    return environment.get_template("overlay.html.jinja").render(
        title=record.title,
        style=_file("overlay.css"),
        scripts=[_file(name) for name in SCRIPTS],
        data=_json(
            {
                "labels": record.labels,
                "right": record.right.tolist(),
                "threshold": record.unit_threshold,
                "images": None if record.images is None else [*map(_address, record.images)],
                "parts": [_part(part) for part in record.layers],
            }
        ),
    )


def _address(image: NDArray[np.float32]) -> str:
    """Return an image of ink (H, W) as the address of a picture on paper."""
    return data_uri(image_colors(1 - image[None]))


def _file(name: str) -> markupsafe.Markup:
    """Return a file beside this one, which is trusted."""
    return markupsafe.Markup((FOLDER / name).read_text(encoding="utf-8"))


def _json(data: dict[str, Any]) -> markupsafe.Markup:
    """Return JSON that cannot end the script element that it is in, nor open a comment in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _part(part: LayerHeatmap) -> dict[str, Any]:
    """Return what the page knows of one layer."""
    return {
        "name": part.name,
        "shape": next(iter(part.quantities.values())).shape,
        "quantities": [_quantity(name, values) for name, values in part.quantities.items()],
        "reads": part.input_symbols.tolist(),
        "writes": None if part.output_symbols is None else part.output_symbols.tolist(),
        "facts": [
            {"name": name, "values": _cells(column)} for name, column in part.unit_notes.items()
        ],
    }


def _quantity(name: str, values: NDArray[np.float32]) -> dict[str, Any]:
    """Return values (N, T, U) in 255 levels of each unit's largest magnitude.

    Raises:
        ValueError: if a value is not finite.
    """
    if not np.isfinite(values).all():
        raise argument_error(f"quantity {name}", "has NaN or inf", "finite numbers")
    # One scale for all units would leave the quiet ones with a handful of levels.
    largest = np.abs(values).max((0, 1))
    levels = np.rint(values / np.where(largest > 0, largest, 1) * LEVELS).astype(np.int8)
    return {
        "name": name,
        "largest": _rounded(largest),
        "deviation": _rounded(values.std((0, 1), dtype=np.float64)),
        "levels": base64.b64encode(levels.tobytes()).decode(),
    }


def _rounded(values: NDArray[Any]) -> list[float]:
    """Return values (U,) to six significant digits."""
    return [float(f"{value:.6g}") for value in values]


def _cells(column: Column) -> list[float | str | None]:
    """Return a fact's values (U,), None where a number is not finite."""
    values: list[float | str] = column.tolist()
    return [v if isinstance(v, str) or math.isfinite(v) else None for v in values]
