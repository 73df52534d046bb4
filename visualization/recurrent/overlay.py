"""Text heat map of units: activations on the characters read and written (Karpathy et al. 2015)."""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visualization.core.arrays import as_array, check_shape
from visualization.core.earlier_names import renamed_arguments
from visualization.core.records import brief_repr
from visualization.recurrent.cells import CellTrace

Column = NDArray[np.float64] | NDArray[np.str_]


@attrs.frozen(eq=False, field_transformer=brief_repr)
class LayerHeatmap:
    """Heat map of one recurrent layer: N samples, T time steps, U units.

    Attributes:
        name: such as `encoder`.
        quantities: what can be shown, in the order of interest: name, such as `c` or `i`, to
            values (N, T, U).
        input_symbols: the character that is read at each step (N, T); a newline is padding.
        output_symbols: the character that is written at each step (N, T), if any is.
        unit_notes: what is known of each unit, by a name that a person reads: numbers or words
            (U,).
    """

    name: str
    quantities: Mapping[str, NDArray[np.float32]]
    input_symbols: NDArray[np.str_]
    output_symbols: NDArray[np.str_] | None
    unit_notes: Mapping[str, Column]


@attrs.frozen(eq=False, field_transformer=brief_repr)
class UnitTextHeatmap:
    """Text heat map: layers over the same samples; `labels` and `right` have one entry a sample.

    Attributes:
        images: of each sample (N, H, W), from 0 to 1 with 1 as ink, over whose width the time
            steps of every layer are evenly spread; None: there are none.
        unit_threshold: least standard deviation, as a share of the layer's largest, of the units
            that are shown at first.
    """

    title: str
    layers: tuple[LayerHeatmap, ...]
    labels: tuple[str, ...]  # such as `123+45+6 = 174`
    right: NDArray[np.bool_]
    unit_threshold: float = 0.05
    images: NDArray[np.float32] | None = None


@renamed_arguments(
    reads="input_symbols", writes="output_symbols", facts="unit_notes", row="layer_index"
)
def layer_heatmap(
    name: str,
    trace: CellTrace,
    input_symbols: ArrayLike,
    output_symbols: ArrayLike | None = None,
    unit_notes: Mapping[str, Column] | None = None,
    layer_index: int = 0,
) -> LayerHeatmap:
    """Heat map of one layer and direction of a trace, on its text (sample, time)."""
    quantities = {q: v.float().cpu().numpy() for q, v in trace.quantities(layer_index).items()}
    shape = next(iter(quantities.values())).shape[:2]
    texts = []
    for characters, argument in (
        (input_symbols, "input_symbols"),
        (output_symbols, "output_symbols"),
    ):
        if characters is not None:
            texts.append(as_array(characters, argument, ("sample", "time")).astype(str))
            check_shape(argument, texts[-1].shape, shape, "trace")
    return LayerHeatmap(
        name, quantities, texts[0], texts[1] if len(texts) > 1 else None, unit_notes or {}
    )


@renamed_arguments(reads="input_symbols", writes="output_symbols", facts="unit_notes")
def unit_text_heatmap(
    trace: CellTrace,
    input_symbols: ArrayLike,
    *,
    output_symbols: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    right: ArrayLike | None = None,
    unit_notes: Mapping[str, Column] | None = None,
    title: str = "what each unit does",
) -> UnitTextHeatmap:
    """Text heat map: every layer and direction of a trace, drawn on what it reads.

    `Report("…", {"cells": overlay}).save("cells.html")` makes the page.

    Args:
        trace: of some hundred samples at most; a page holds all their states and gates.
        input_symbols: what is read at each step (sample, time): characters, or anything that is
            printed.
        output_symbols: what is written at each step, likewise.
        labels: of each sample, in words; None: what it reads.
        right: whether each sample's answer is right; None: all are.
        unit_notes: what is known of each unit, by name: numbers or words (unit,).
        title: of the page.

    Raises:
        ValueError: names the argument that does not fit.
    """
    layers = tuple(
        layer_heatmap(
            trace.layer_name(layer_index),
            trace,
            input_symbols,
            output_symbols,
            unit_notes,
            layer_index,
        )
        for layer_index in range(len(trace.h))
    )
    texts = labels if labels is not None else ["".join(line) for line in layers[0].input_symbols]
    is_right = np.ones(len(texts), bool) if right is None else np.asarray(right, bool)
    for name, size in (("labels", len(texts)), ("right", len(is_right))):
        check_shape(name, (size,), layers[0].input_symbols.shape[:1], "trace")
    return UnitTextHeatmap(title, layers, tuple(texts), is_right)
