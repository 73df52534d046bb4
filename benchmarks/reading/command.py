"""The command `python -m benchmarks read`: train or load each recipe, and print one table."""

import contextlib
import fnmatch
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from agents.core.config import read_option
from agents.core.runs.checkpoint import atomic_write
from benchmarks.measure import Figures, tell
from benchmarks.reading import peers, runs, tables, whole_pages
from benchmarks.reading.page import page
from benchmarks.reading.recipes import RECIPES, PageRecipe, PeerRecipe, Recipe
from benchmarks.reading.runs import Place
from benchmarks.reading.scores import Score, scores_of
from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, TerrariumError, nearest


def measure(options: Namespace) -> Figures:
    """Train or load the recipes, score them, and write table and page into the folder of runs.

    A recipe whose data are missing, or whose run cannot go on, is named and left out.
    """
    data = None if options.data is None else expand_user(options.data).absolute()
    place = Place(expand_user(options.runs).absolute(), data)
    settings = {name: given.value for name, given in map(read_option, options.set)}
    table = Table(place)
    for name in chosen(options.only):
        tell(f"{name} …")
        with table.naming(name):
            _add_scores(table, name, place, settings, options.limit)
    return {"scores": tables.plain(table.scores), "left_out": table.reasons}


@attrs.frozen
class Table:
    """The scores so far, and what is left out and why; in files after each of them."""

    place: Place
    scores: list[Score] = attrs.Factory(list)
    reasons: dict[str, str] = attrs.Factory(dict)

    def add(self, scores: Iterable[Score]) -> None:
        """Add scores as they are measured."""
        for score in scores:
            self.scores.append(score)
            self.write()

    @contextlib.contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Name what a user can correct, in a `with` block, and go on after it."""
        try:
            yield
        except TerrariumError as error:
            self.reasons[name] = self._without_folders(str(error))
            tell(f"{name} is left out: {error}")
            self.write()

    def write(self) -> None:
        """Write `table.md`, `table.csv` and `errors.html`."""
        folder = self.place.runs
        folder.mkdir(parents=True, exist_ok=True)
        text = f"{tables.markdown(self.scores)}\n{tables.left_out(self.reasons)}"
        atomic_write(folder / "table.md", text.encode())
        atomic_write(folder / "table.csv", tables.comma_separated(self.scores).encode())
        atomic_write(folder / "errors.html", page(self.scores, self.reasons).encode())

    def _without_folders(self, text: str) -> str:
        """Return a text with paths as they are within the folders that the options name."""
        for folder in filter(None, (self.place.runs, self.place.data)):
            text = text.replace(f"{folder}/", "")
        return text


def chosen(patterns: Sequence[str]) -> list[str]:
    """Return the names of the recipes that a pattern names; without one, all.

    Raises:
        ConfigError: a pattern names none.
    """
    for pattern in patterns:
        if not fnmatch.filter(RECIPES, pattern):
            accepted = ", ".join(RECIPES)
            raise ConfigError("--only", "", f"no recipe {pattern!r}", accepted,
                              nearest(pattern, RECIPES))  # fmt: skip
    return [name for name in RECIPES if any(fnmatch.fnmatch(name, p) for p in patterns or "*")]


def _add_scores(
    table: Table, name: str, place: Place, settings: Mapping[str, Any], limit: int
) -> None:
    def train(trained: str) -> runs.Trained:
        known = RECIPES[trained]
        assert isinstance(known, Recipe), f"{trained} is no recipe of an agent"
        return runs.train(trained, known, place, settings)

    match RECIPES[name]:
        case PeerRecipe() as recipe:
            table.add(peers.scores_of(name, recipe, place, limit))
        case PageRecipe() as recipe:
            table.add(whole_pages.scores_of(name, recipe, place, train, limit))
        case recipe:
            agent = train(name)
            for data in (recipe.data, *recipe.also_on):
                with table.naming(f"{name} on {data}"):
                    table.add(scores_of(name, recipe, data, place, agent, limit))


def report(figures: Figures) -> str:
    """Return the table in Markdown, and what is left out."""
    scores = [Score(**score) for score in figures["scores"]]
    return f"{tables.markdown(scores)}\n{tables.left_out(figures['left_out'])}".rstrip()
