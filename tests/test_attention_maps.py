"""The record of attention: shares by hand, the order of reading, and what is drawn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tasks
from tests.conftest import small_agent
from visualization import render
from visualization.attention import AttentionMaps, attention_maps

WRITTEN = np.array([["5", "7"], ["9", "\n"]])
READ = np.array([["1", "+", "4"], ["4", "+", "5"]])
ROWS = [("1+4", "57", "5", True), ("4+5", "9", "9", True)]
ONE_PLACE = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1]]], float)
EVENLY = np.full((2, 2, 3), 1 / 3)


def record(**settings: Any) -> AttentionMaps:
    """Return two maps of two sums."""
    maps: dict[str, Any] = {"one place": ONE_PLACE, "evenly": EVENLY}
    return attention_maps(maps, WRITTEN, READ, **({"rows": ROWS} | settings))


def columns(*rows: list[int]) -> NDArray[np.int64]:
    """Return columns of characters, -1 where there is none."""
    return np.array(rows)


def test_shares_by_hand() -> None:
    """Of three characters written that have a column, one looks at its own column, two do not."""
    written, read = columns([0, 1], [0, -1]), columns([0, -1, 0], [1, -1, 0])
    found = record(known=({"column": written}, {"column": read, "digit": read}))
    # Sample 0: "5" of column 0 looks at "1" of column 0: yes; "7" of column 1: there is none.
    # Sample 1: "9" of column 0 looks at the plus: no; the padding has no column.
    np.testing.assert_allclose(found.shares["column"], [1 / 2, (2 / 3 + 1 / 3) / 2])
    assert found.by_chance["column"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    np.testing.assert_allclose(found.largest, [1, 1 / 3])
    assert [*found.shares] == ["column"]


def test_wrong_answers_do_not_count() -> None:
    """A sum that was answered wrong says nothing of the columns that were written."""
    wrong = [ROWS[0], (*ROWS[1][:3], False)]
    known = ({"column": columns([0, 1], [0, -1])}, {"column": columns([0, -1, 0], [1, -1, 0])})
    assert record(rows=wrong, known=known).shares["column"][0] == 1
    none = record(rows=[(*row[:3], False) for row in ROWS], known=known)
    assert np.isnan(none.shares["column"]).all()
    assert "–" in render.text(none)


@pytest.mark.parametrize(
    ("reverse", "words"), [("none", ""), ("input", "read from its end"), ("target", "")]
)
def test_the_order_of_reading_is_said(reverse: str, words: str) -> None:
    """A question that is read from its end is drawn in that order, and the figure says so."""
    agent = small_agent("attention_adder", task=tasks.make("add2x2", reverse=reverse))
    found = agent.inspect(["attention"])["attention"]
    assert found.order == words
    question = found.labels[0].split(" = ")[0]
    text = question[::-1] if reverse == "input" else question
    assert "".join(found.read[0]).strip("\n") == text
    figure = render.draw(found)
    assert words in figure.get_supxlabel()


@pytest.mark.parametrize("name", ["attention_adder", "transformer_adder"])
def test_a_view_holds_what_the_model_weighed(name: str) -> None:
    """Maps of the test's answers sum to 1, with no weight on what is out of sight."""
    agent = small_agent(name, task="add2x2")
    found = agent.inspect(["attention"])["attention"]
    maps = found if isinstance(found, dict) else {"": found}
    batch = agent.task.samples("test", 500)
    answers = agent.respond_to(batch)
    characters = np.array(list(agent.task.spec.characters))
    for held in maps.values():
        np.testing.assert_array_equal(held.written, characters[answers])
        np.testing.assert_array_equal(held.read, characters[batch.question])
        np.testing.assert_allclose(held.weights.sum(-1), 1, atol=1e-5)
        assert (held.weights[..., 0] == 0).any()  # padding that is read first
        assert {*held.shares} == {"digit", "column"}


def test_maps_are_drawn_with_their_characters() -> None:
    """Each heat map has its sum as title, its characters at the ticks, and the scale 0 to 1."""
    figure = render.draw(record())
    heat = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title("left") for axes in heat] == [
        "one place: 1+4 = 57", "evenly: 1+4 = 57", "one place: 4+5 = 9", "evenly: 4+5 = 9",
    ]  # fmt: skip
    last = heat[2]
    assert [tick.get_text() for tick in last.get_xticklabels()] == ["4", "+", "5"]
    assert [tick.get_text() for tick in last.get_yticklabels()] == ["9", "⏎"]
    np.testing.assert_array_equal(last.images[0].get_array(), ONE_PLACE[1])
    assert last.images[0].get_clim() == (0, 1)
    assert any(axes.get_ylabel() == "share of the attention" for axes in figure.axes)
    few = render.draw(record().take([1]))
    (one, _) = (axes.get_title("left") for axes in few.axes if axes.images)
    assert one == "one place: 4+5 = 9"


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (EVENLY[:, :1], r"wrong: shape \(2, 1, 3\) does not go with"),
        (EVENLY * 2, "wrong: a row does not sum to 1"),
        (EVENLY * np.nan, "wrong: nan at sample 0"),
    ],
)
def test_weights_that_are_none_are_refused(weights: NDArray[Any], words: str) -> None:
    """Weights of another shape, or that are no shares, are an error that names the map."""
    with pytest.raises(ValueError, match=words):
        attention_maps({"wrong": weights}, WRITTEN, READ, ROWS)
