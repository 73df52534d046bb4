"""Figures of convolutional networks can be read as others can; see `test_legible`."""

import pytest

from tests import drawn, drawn_conv, drawn_layers
from tests.legible import faults
from visualization import render

SAMPLES = {**drawn_conv.SAMPLES, **drawn_layers.SAMPLES}
CASES = [(kind, size) for kind in SAMPLES for size in drawn.SIZES]


@pytest.mark.parametrize(("kind", "size"), CASES, ids=[f"{k.__name__}-{s}" for k, s in CASES])
def test_a_figure_can_be_read(kind: type, size: str) -> None:
    """100 layers, long names, Chinese, images of one column: nothing is cut or runs together."""
    assert faults(render.draw(SAMPLES[kind](drawn.SIZES[size]))) == []
