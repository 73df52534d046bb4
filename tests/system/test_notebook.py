"""What a notebook shows of agents, reports and records."""

import base64
import html
import io
import re

import attrs
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

import agents
from tests.helpers import samples, samples_conv, samples_layers
from visualization import render, show
from visualization.feature_maps.unit_pages import fragment
from visualization.records import Table, Transcript
from visualization.recurrent import Edit
from visualization.report import Report

TABLE = Table("two words", ["a", "b"], [["1", "2"]])


def pictures(page: str) -> list[str]:
    """Return the pictures within a page, as text."""
    return re.findall(r"data:image/png;base64,([\w+/=]+)", page)


def test_a_report_as_the_last_line_shows_its_page() -> None:
    """A notebook gets the page in a frame of its own, and a terminal the names of the records."""
    report = Report("a look", {"one": TABLE, "two": {"left": TABLE, "right": TABLE}})
    assert repr(report) == "<Report 'a look': one, two/left, two/right>"
    (inner,) = re.findall(r'<iframe srcdoc="([^"]*)"', report._repr_html_())
    assert html.unescape(inner) == report.html()
    assert len(pictures(report.html())) == 3


def test_a_very_long_page_is_cut_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room in a notebook is not drawn but named, and is in the file all the same."""
    monkeypatch.setattr("visualization.report._EMBEDDED", 10)
    report = Report("a look", {"one": TABLE, "two": TABLE, "three": TABLE})
    page = html.unescape(report._repr_html_())
    assert len(pictures(page)) == 1
    assert "Not shown here, for their size: two, three." in page
    assert len(pictures(report.html())) == 3


def test_a_report_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and whoever asks for a figure again share it."""
    report, draw, num = Report("a look", {"one": TABLE}), render.draw, []
    monkeypatch.setattr(render, "draw", lambda record: num.append(record) or draw(record))
    assert base64.b64encode(report.picture("one")).decode() in report.html()
    assert len(num) == 1


def test_show_takes_a_report_and_refuses_what_is_not_drawn() -> None:
    """All records of a report are shown; settings, arrays and words are a ValueError at once."""
    report = Report("a look", {"one": TABLE, "two": {"left": TABLE}})
    assert list(show(report).pictures()) == ["one", "two/left"]
    assert list(show({"a": {"b": TABLE}}).pictures()) == ["a/b"]
    for other in (Edit(h=0.0), np.zeros(3), {"a": Edit(h=0.0)}, "words"):
        with pytest.raises(ValueError, match="is not accepted; accepted: a record, a report"):
            show(other)
    assert show(samples_conv.attributions(samples.PLAIN)).pictures()


def test_an_agent_says_in_a_line_what_it_is() -> None:
    """Its name, its task, the steps taken, and how many parameters it has."""
    agent = agents.make("parity_lstm", task="parity", hidden_size=2)
    num = sum(parameter.numel() for parameter in agent.model.parameters())
    assert repr(agent) == f"<parity_lstm on parity, step 0, {num} parameters>"


def test_a_terminal_that_showed_nothing_is_drawn() -> None:
    """A transcript without a line is an empty picture."""
    with Image.open(io.BytesIO(render.png(render.draw(Transcript(""))))) as image:
        assert len(image.convert("RGB").getcolors()) == 1


def test_rows_of_different_lengths_are_filled_up_with_what_is_no_number() -> None:
    """Texts with "", floats with NaN; integers, which have no such thing, with −1."""
    rows = {"texts": [("a",), ("b", "c")], "floats": [(0.5,), (0.1, 0.2)], "counts": [(3,), ()]}
    found = Report("a look", rows).arrays()
    assert found["texts"].tolist() == [["a", ""], ["b", "c"]]
    np.testing.assert_array_equal(found["floats"], [[0.5, np.nan], [0.1, 0.2]])
    assert found["counts"].tolist() == [[3], [-1]]
    assert "deep" not in Report("a look", {"deep": [((1, 2),), (3, 4)]}).arrays()


@pytest.mark.parametrize("peak", [-0.5, 0.0])
def test_a_channel_that_is_never_above_0_is_dead_wherever_it_is_named(peak: float) -> None:
    """Figure, gallery and text call the same channels dead, also after a leaky rectifier."""
    whole = samples_layers.sheets(samples.PLAIN)
    peaks = whole.peaks.copy()
    peaks[:, 2] = peak
    record = attrs.evolve(whole, peaks=peaks)
    words = [text.get_text() for text in render.draw(record).findobj(Text)]
    assert [each for each in words if each.endswith("dead")] == ["1002 dead"]
    assert render.text(record).endswith("dead: 1002")
    assert len(re.findall(r"<a [^>]*un-dead", fragment(record))) == 1
