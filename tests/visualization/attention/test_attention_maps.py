"""The record of attention: shares by hand, the order of reading, and what is drawn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tasks
from tasks.core.task import Row
from tests.conftest import small_agent
from visualization import render
from visualization.attention.maps import AttentionMaps, attention_maps

WRITTEN = np.array([["5", "7"], ["9", "\n"]])
READ = np.array([["1", "+", "4"], ["4", "+", "5"]])
ROWS = [Row("1+4", "57", "5", True), Row("4+5", "9", "9", True)]
ONE_PLACE = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1]]], float)
EVENLY = np.full((2, 2, 3), 1 / 3)


def record(maps: dict[str, Any] | None = None, **settings: Any) -> AttentionMaps:
    """Return two maps of two sums."""
    held = maps or {"one place": ONE_PLACE, "evenly": EVENLY}
    return attention_maps(held, WRITTEN, READ, **({"rows": ROWS} | settings))


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


def test_what_is_out_of_sight_is_no_chance() -> None:
    """The share by chance is that of visible places: a place with no weight anywhere is none."""
    hidden = np.array([[[0, 0.5, 0.5], [0, 1, 0]], [[0.2, 0.3, 0.5], [0, 1, 0]]])
    known = ({"column": columns([0, -1], [0, -1])}, {"column": columns([0, 0, -1], [0, -1, -1])})
    found = record(maps={"half": hidden, "other": hidden}, known=known)
    # Sample 0 has two places in sight, one of them of column 0; sample 1 three, one of them too.
    assert found.by_chance["column"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    np.testing.assert_allclose(found.shares["column"], (0.5 + 0.2) / 2)


def test_wrong_answers_do_not_count() -> None:
    """A sum that was answered wrong says nothing of the columns that were written."""
    wrong = [ROWS[0], ROWS[1]._replace(correct=False)]
    known = ({"column": columns([0, 1], [0, -1])}, {"column": columns([0, -1, 0], [1, -1, 0])})
    assert record(rows=wrong, known=known).shares["column"][0] == 1
    none = record(rows=[row._replace(correct=False) for row in ROWS], known=known)
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
    answers = agent.predict_arrays(batch)
    characters = np.array(list(agent.task.spec.characters))
    for held in maps.values():
        np.testing.assert_array_equal(held.written, characters[answers])
        np.testing.assert_array_equal(held.read, characters[batch.question])
        np.testing.assert_allclose(held.weights.sum(-1), 1, atol=1e-5)
        assert (held.weights[..., 0] == 0).any()  # padding that is read first
        assert {*held.shares} == {"digit", "column"}


def test_maps_are_drawn_with_their_characters() -> None:
    """Each heat map has its sum as title, its characters at the ticks, and the scale 0 to 1."""
    rows = [ROWS[0]._replace(correct=False), ROWS[1]]
    figure = render.draw(record(rows=rows))
    heat = [axes for axes in figure.axes if axes.images]
    assert [title(axes) for axes in heat] == [
        "one place: 1+4 = 57 ✗", "evenly: 1+4 = 57 ✗", "one place: 4+5 = 9 ✓", "evenly: 4+5 = 9 ✓",
    ]  # fmt: skip
    last = heat[2]
    assert [tick.get_text() for tick in last.get_xticklabels()] == ["4", "+", "5"]
    assert [tick.get_text() for tick in last.get_yticklabels()] == ["9", "⏎"]
    np.testing.assert_array_equal(last.images[0].get_array(), ONE_PLACE[1])
    assert last.images[0].get_clim() == (0, 1)
    assert any(axes.get_ylabel() == "share of the attention" for axes in figure.axes)
    few = render.draw(record().take([1]))
    (one, _) = (title(axes) for axes in few.axes if axes.images)
    assert one == "one place: 4+5 = 9 ✓"
    (two, _) = (title(axes) for axes in render.draw(record(rows=rows).take([0])).axes[:2])
    assert two == "one place: 1+4 = 57 ✗"


def long_sums(num_maps: int = 1, padding: int = 50) -> AttentionMaps:
    """Return maps of two sums that are read after much padding, and end with some."""
    read = np.array([list("\n" * padding + "12+345"), list("\n" * padding + "\n\n9+45")])
    written = np.array([list("753\n\n"), list("54\n\n\n")])
    weights = (read != "\n")[:, None].repeat(written.shape[1], axis=1).astype(float)
    weights /= weights.sum(axis=-1, keepdims=True)
    rows = [Row("543+21", "753", "564", False), Row("54+9", "54", "63", False)]
    return attention_maps({f"head {k}": weights for k in range(num_maps)}, written, read, rows)


def title(axes: Any) -> str:
    """Return the title of a heat map, whose lines break where they have room."""
    return " ".join(axes.get_title("left").split())


def ticks(axes: Any) -> tuple[str, str]:
    """Return the characters beside a heat map, read and written."""
    labels = (axes.get_xticklabels(), axes.get_yticklabels())
    read, written = ("".join(tick.get_text() for tick in side) for side in labels)
    return read, written


def test_padding_of_all_drawn_sums_is_left_out() -> None:
    """Columns and rows that no drawn sum has a character at are not drawn; the next one ends it."""
    maps = long_sums()
    first, second, *_ = render.draw(maps).axes
    assert ticks(first) == ("12+345", "753⏎")
    assert ticks(second) == ("⏎⏎9+45", "54⏎⏎")
    np.testing.assert_array_equal(second.images[0].get_array(), maps.weights[0, 1, :4, 50:])
    (alone, *_) = render.draw(maps.take([1])).axes
    assert ticks(alone) == ("9+45", "54⏎")


def test_long_sums_are_cut_and_their_answers_named() -> None:
    """Of a question of 60 characters the first 48 are drawn, and its title ends with the answer."""
    characters = np.array([list("1+" * 30)])
    weights = np.full((1, 1, 60), 1 / 60)
    maps = attention_maps(
        {"": weights}, np.array([["3"]]), characters, [Row("1+" * 30, "3", "", True)]
    )
    (axes, *_) = render.draw(maps).axes
    assert ticks(axes) == ("1+" * 24, "3")
    assert title(axes) == "1+" * 11 + "1… = 3 ✓"


def test_an_answer_of_padding_alone_is_drawn() -> None:
    """An untrained network that writes nothing has its map all the same."""
    weights = np.full((1, 2, 3), 1 / 3)
    maps = attention_maps(
        {"": weights}, np.full((1, 2), "\n"), READ[:1], [Row("1+4", "", "5", False)]
    )
    assert ticks(render.draw(maps).axes[0]) == ("1+4", "⏎⏎")


@pytest.mark.parametrize("num_maps", [3, 4, 6, 16])
def test_many_heads_stand_in_rows_of_four(num_maps: int) -> None:
    """Each sum has its heads four to a row, up to eight; the next sum begins a row of its own."""
    figure = render.draw(long_sums(num_maps))
    heat = [axes for axes in figure.axes if axes.images]
    places = [axes.get_subplotspec() for axes in heat]
    shown = min(num_maps, 8)
    rows = -(-shown // 4)
    wanted = [
        (sum_number * rows + head // 4, head % 4)
        for sum_number in range(min(2, 8 // shown)) for head in range(shown)
    ]  # fmt: skip
    assert ("8 of 16 maps" in figure.get_supxlabel()) is (num_maps == 16)
    assert [(place.rowspan.start, place.colspan.start) for place in places] == wanted
    assert figure.get_figwidth() < 1.4 + 4 * (0.7 + 0.2 * 7)
    assert [bool(axes.get_ylabel()) for axes in heat] == [column == 0 for _, column in wanted]


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
