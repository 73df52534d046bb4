"""The summary says what results.json has, and the page on speed says the same."""

from typing import Any

import pytest

from benchmarks import summary
from benchmarks.__main__ import COMMANDS
from benchmarks.summary import Goal, Pair, Row


def row(goal: Goal | None) -> Row:
    """Return a row of the ratio that its figures name."""
    return Row("start", "ours; theirs", "speed", goal, lambda f: Pair("1 s", "2 s", f["ratio"]))


@pytest.mark.parametrize(
    ("goal", "figures", "text"),
    [
        (None, {"ratio": 2.0}, "2.0 × as fast: 1 s, 2 s"),
        (Goal("≥", 2.0), {"ratio": 2.0}, "2.0 × as fast: 1 s, 2 s"),
        (Goal("≥", 2.1), {"ratio": 2.0}, "2.0 × as fast (missed): 1 s, 2 s"),
        (Goal("≤", 1.9), {"ratio": 2.0}, "2.0 × as fast (missed): 1 s, 2 s"),
        (None, {}, "–"),
    ],
)
def test_a_cell_has_ratio_and_figures(goal: Goal | None, figures: Any, text: str) -> None:
    """A missed goal is marked; what an earlier version did not measure is a dash."""
    assert summary.cell(row(goal), {"figures": figures}) == text


def test_what_was_not_measured_is_a_dash() -> None:
    """Without an entry there is no figure."""
    assert summary.cell(row(None), None) == "–"


def test_each_row_is_of_a_command() -> None:
    """Each row names a command that exists, and the kind of its ratio is known."""
    assert {row.command for row in summary.ROWS} <= set(COMMANDS)
    assert {row.kind for row in summary.ROWS} <= set(summary.WORDS)


def test_the_page_on_speed_has_the_table_of_the_results() -> None:
    """`python -m benchmarks summary --write` was run after the last measurement."""
    text = summary.PAGE.read_text(encoding="utf-8")
    assert f"{summary.BEGIN}\n{summary.markdown()}{summary.END}" in text


def test_writing_the_summary_keeps_the_rest_of_the_page(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is between the marks is replaced, and writing again changes nothing."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{summary.BEGIN}\nold\n{summary.END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(summary, "PAGE", page)
    summary.write()
    once = page.read_text(encoding="utf-8")
    assert once.startswith(f"before\n{summary.BEGIN}\n| ours;")
    assert once.endswith(f"|\n{summary.END}\nafter\n")
    assert "old" not in once
    summary.write()
    assert page.read_text(encoding="utf-8") == once
