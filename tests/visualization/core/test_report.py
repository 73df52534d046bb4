"""Reports of which some part fails: what is a bug is an error, and the rest is not lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from tests.conftest import small_agent
from visualization import NothingToShow, render
from visualization.core.registry import subpages
from visualization.records import Curves, Transcript
from visualization.report import Report


@attrs.frozen
class Spoilt:
    """A record whose drawing fails."""

    number: int = 3


@render.draw.register
def _(record: Spoilt) -> Any:
    raise IndexError(f"place {record.number} of <2>")


@attrs.frozen
class SpoiltPages(Transcript):
    """A record whose pages fail."""

    text: str = "words"


@subpages.register
def _(record: SpoiltPages, report: str) -> Any:
    yield "units/first.html", "a page"
    raise IndexError("the second page")


def with_view(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Any:
    """Return an agent that has a view more, which raises an error."""
    agent = small_agent()

    def view() -> None:
        raise error

    views: dict[str, Callable[[], Any]] = {"own": view}
    monkeypatch.setattr(agent, "views", lambda: views)
    return agent


@pytest.mark.parametrize("error", [ValueError("a bug"), np.linalg.LinAlgError("a bug")])
def test_a_bug_in_a_view_is_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever kind of ValueError it is, and whether the view was named or not."""
    agent = with_view(monkeypatch, error)
    for views in (None, ["own"]):
        with pytest.raises(type(error), match="a bug"):
            agent.inspect(views)


def test_a_view_with_nothing_to_show_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason stands in its place among all views; asked for by name it is an error."""
    agent = with_view(monkeypatch, NothingToShow("no layers of that kind"))
    assert "no layers of that kind" in agent.inspect()["own"].text
    with pytest.raises(ValueError, match="no layers of that kind"):
        agent.inspect(["own"])


def test_a_record_that_cannot_be_drawn_does_not_lose_the_others(tmp_path: Path) -> None:
    """The page has the other records and the error, which is raised as well, with its view."""
    curves = Curves({"loss": {"training": ([1, 2], [0.5, 0.25])}}, frozenset())
    report = Report("some", {"before": curves, "spoilt": Spoilt(), "after": curves})
    with pytest.raises(ExceptionGroup, match=r"page\.html") as caught:
        report.save(tmp_path / "page.html")
    (error,) = caught.value.exceptions
    assert isinstance(error, IndexError)
    assert error.__notes__ == ["while drawing spoilt"]
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 2
    assert "IndexError: place 3 of &lt;2&gt;" in page
    with pytest.raises(ExceptionGroup):
        report.html()


def test_pages_that_cannot_be_drawn_do_not_lose_the_report(tmp_path: Path) -> None:
    """The report and the pages of other records are written, and the error is raised."""
    report = Report("some", {"spoilt": SpoiltPages(), "words": Transcript("other words")})
    with pytest.raises(ExceptionGroup) as caught:
        report.save(tmp_path / "page.html")
    assert caught.value.exceptions[0].__notes__ == ["while drawing pages of spoilt"]
    assert "other words" in (tmp_path / "page.html").read_text()
