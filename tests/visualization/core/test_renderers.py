"""Renderers: a second process draws what the first would, and the first what the second cannot."""

import pickle
from typing import Any

import attrs
import numpy as np
import pytest

from tests.helpers import samples, samples_conv, samples_layers
from visualization import render
from visualization.records import Bars, Transcript
from visualization.renderers import BackgroundRenderer, LazyRenderer
from visualization.report import Report

SAMPLES = {**samples.SAMPLES, **samples_conv.SAMPLES, **samples_layers.SAMPLES}


@attrs.frozen
class OfAScript(Transcript):
    """A record that another process does not know how to draw."""


@render.draw.register
def _(record: OfAScript) -> Any:
    return render.draw(Transcript(f"drawn here: {record.text}"))


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_record_comes_whole_to_another_process(kind: type) -> None:
    """Whatever kind of record it is: pickled and read again it is the same."""
    record = SAMPLES[kind](samples.PLAIN)
    there = pickle.loads(pickle.dumps(record))
    arrays, others = (Report("", {"it": each}).arrays() for each in (record, there))
    assert type(there) is type(record)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name])


def test_a_second_process_draws_the_same_figures() -> None:
    """Of what cannot be pickled, and of what only this process can draw, too; errors are told."""
    bars = SAMPLES[Bars](samples.PLAIN)
    records = {
        "bars": bars,
        "script": OfAScript("words"),
        "lambda": Transcript.__new__(type("Local", (Transcript,), {})),
        "spoilt": Bars({"a": {"b": "no number"}}),  # type: ignore[dict-item]
    }
    object.__setattr__(records["lambda"], "text", "of a class that has no name")
    lazy = LazyRenderer()
    with BackgroundRenderer() as renderer:
        for name, record in records.items():
            renderer.announce(name, record)
        for name in ("bars", "script", "lambda"):
            assert renderer.picture(name, records[name]) == lazy.picture(name, records[name])
        for each in (lazy, renderer):
            with pytest.raises(TypeError, match="unsupported operand"):
                each.picture("spoilt", records["spoilt"])
