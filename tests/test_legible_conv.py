"""Figures of convolutional networks can be read as others can; see `test_legible`."""

import pytest

from tests import drawn, drawn_conv
from tests.legible import faults
from visualization import render

CASES = [(kind, size) for kind in drawn_conv.SAMPLES for size in drawn.SIZES]


@pytest.mark.parametrize(("kind", "size"), CASES, ids=[f"{k.__name__}-{s}" for k, s in CASES])
def test_a_figure_can_be_read(kind: type, size: str) -> None:
    """100 layers, long names, Chinese, images of one column: nothing is cut or runs together."""
    assert faults(render.draw(drawn_conv.SAMPLES[kind](drawn.SIZES[size]))) == []
