"""Figures of convolutional networks can be read as others can; see `test_legible`."""

import pytest

from tests.helpers import samples, samples_conv, samples_layers
from tests.helpers.legible import faults
from visualization import render

SAMPLES = {**samples_conv.SAMPLES, **samples_layers.SAMPLES}
CASES = [(kind, size) for kind in SAMPLES for size in samples.SIZES]


@pytest.mark.parametrize(("kind", "size"), CASES, ids=[f"{k.__name__}-{s}" for k, s in CASES])
def test_a_figure_can_be_read(kind: type, size: str) -> None:
    """100 layers, long names, Chinese, images of one column: nothing is cut or runs together."""
    assert faults(render.draw(SAMPLES[kind](samples.SIZES[size]))) == []
