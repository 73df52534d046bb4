"""Every figure can be read: it fits a page, and its words are whole and do not lie over another."""

import importlib
import pkgutil

import pytest

import visualization
from tests.helpers import samples, samples_circuits, samples_conv, samples_layers, samples_texts
from tests.helpers.legible import faults
from visualization import render

PLAIN = {**samples.SAMPLES, **samples_texts.SAMPLES, **samples_circuits.SAMPLES}
SAMPLES = {**PLAIN, **samples_conv.SAMPLES, **samples_layers.SAMPLES}
CASES = [(kind, size) for kind in PLAIN for size in samples.SIZES]


def test_every_kind_that_is_drawn_has_samples() -> None:
    """A record that can be drawn is among those of which the figures are looked at."""
    for module in pkgutil.walk_packages(visualization.__path__, "visualization."):
        if module.name.endswith(".figures"):
            importlib.import_module(module.name)
    drawn_kinds = {k for k in render.draw.registry if k.__module__.startswith("visualization.")}
    assert drawn_kinds == set(SAMPLES)  # other tests have kinds of their own


@pytest.mark.parametrize(("kind", "size"), CASES, ids=[f"{k.__name__}-{s}" for k, s in CASES])
def test_a_figure_can_be_read(kind: type, size: str) -> None:
    """Few or 100 layers, 5,000 steps, long names, Chinese: nothing is cut off or runs together."""
    assert faults(render.draw(SAMPLES[kind](samples.SIZES[size]))) == []


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_record_is_printed_in_few_words(kind: type) -> None:
    """The last line of a cell shows the shapes of a record's arrays, not their numbers."""
    assert len(repr(SAMPLES[kind](samples.EXTREME))) < 2000
