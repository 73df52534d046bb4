"""Each unit's activity on the characters that it reads and writes (Karpathy et al. 1506.02078)."""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visualization.core.arrays import as_array, check_shape
from visualization.core.records import brief_repr
from visualization.recurrent.cells import CellTrace

Column = NDArray[np.float64] | NDArray[np.str_]


@attrs.frozen(eq=False)
class LayerHeatmap:
    """One recurrent layer over a set of samples: S samples, T time steps, U units.

    Attributes:
        name: such as `encoder`.
        quantities: what can be shown, in the order of interest: name, such as `c` or `i`, to
            values (S, T, U).
        reads: the character that is read at each step (S, T); a newline is padding.
        writes: the character that is written at each step (S, T), if any is.
        facts: what is known of each unit, by a name that a person reads: numbers or words (U,).
    """

    name: str
    quantities: Mapping[str, NDArray[np.float32]]
    reads: NDArray[np.str_]
    writes: NDArray[np.str_] | None
    facts: Mapping[str, Column]


@attrs.frozen(eq=False, field_transformer=brief_repr)
class UnitTextHeatmap:
    """The layers of one agent over the same samples; `labels` and `right` have one entry a sample.

    Attributes:
        unit_threshold: least standard deviation, as a share of the layer's largest, of the units
            that are shown at first.
    """

    title: str
    parts: tuple[LayerHeatmap, ...]
    labels: tuple[str, ...]  # such as `123+45+6 = 174`
    right: NDArray[np.bool_]
    unit_threshold: float = 0.05


def layer_heatmap(
    name: str,
    trace: CellTrace,
    reads: ArrayLike,
    writes: ArrayLike | None = None,
    facts: Mapping[str, Column] | None = None,
    row: int = 0,
) -> LayerHeatmap:
    """Return one layer and direction of a trace, on what it reads and writes (sample, time)."""
    quantities = {q: v.float().cpu().numpy() for q, v in trace.quantities(row).items()}
    shape = next(iter(quantities.values())).shape[:2]
    texts = []
    for given, named in ((reads, "reads"), (writes, "writes")):
        if given is not None:
            texts.append(as_array(given, named, ("sample", "time")).astype(str))
            check_shape(named, texts[-1].shape, shape, "trace")
    return LayerHeatmap(
        name, quantities, texts[0], texts[1] if len(texts) > 1 else None, facts or {}
    )


def unit_text_heatmap(
    trace: CellTrace,
    reads: ArrayLike,
    *,
    writes: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    right: ArrayLike | None = None,
    facts: Mapping[str, Column] | None = None,
    title: str = "what each unit does",
) -> UnitTextHeatmap:
    """Return every layer and direction of a trace, drawn on what it reads.

    `Report("…", {"cells": overlay}).save("cells.html")` makes the page.

    Args:
        trace: of some hundred samples at most; a page holds all their states and gates.
        reads: what is read at each step (sample, time): characters, or anything that is printed.
        writes: what is written at each step, likewise.
        labels: of each sample, in words; None: what it reads.
        right: whether each sample's answer is right; None: all are.
        facts: what is known of each unit, by name: numbers or words (unit,).
        title: of the page.

    Raises:
        ValueError: names the argument that does not fit.
    """
    parts = tuple(
        layer_heatmap(trace.row_name(row), trace, reads, writes, facts, row)
        for row in range(len(trace.h))
    )
    texts = labels if labels is not None else ["".join(line) for line in parts[0].reads]
    answered = np.ones(len(texts), bool) if right is None else np.asarray(right, bool)
    for name, size in (("labels", len(texts)), ("right", len(answered))):
        check_shape(name, (size,), parts[0].reads.shape[:1], "trace")
    return UnitTextHeatmap(title, parts, tuple(texts), answered)
