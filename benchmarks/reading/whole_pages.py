"""Page error rates: a reader reads the lines that a detector finds on the pages of the test."""

import functools
import operator
import time
from collections.abc import Callable, Iterator
from typing import Any

from agents.core.agent import Agent
from agents.core.pages import PageReader
from agents.core.reading import LineReader
from benchmarks.reading import decoders
from benchmarks.reading.recipes import DATA, PageRecipe
from benchmarks.reading.runs import Place, Trained
from benchmarks.reading.scores import FILE, SPLIT, Kept, Score, digest_of, split_of, without_folders
from tasks.handwriting.page_format import read_page
from tasks.handwriting.page_scores import page_errors
from tasks.handwriting.page_xml import PageFile, PageLines


def scores_of(
    name: str, recipe: PageRecipe, place: Place, train: Callable[[str], Trained], limit: int = 0
) -> Iterator[Score]:
    """Yield the page error rates by decoder; those that are kept already are not measured again.

    `cer` and `wer` are the `page_cer` and `page_wer` of `tasks.handwriting.page_scores`; shares of
    lines `missed` and `extra`, and `order_cer`, are among the settings of a score.

    Args:
        name: of the recipe, and of the folder of its scores.
        recipe: names the recipes of detector and reader.
        place: of runs and data.
        train: returns the agent of a recipe by name; one that is finished is loaded.
        limit: pages that are read; 0: all.

    Raises:
        TerrariumError: data are missing, or an agent cannot be trained.
    """
    task = place.task(recipe.data)
    assert isinstance(task, PageLines)
    pages = pages_of_test(task)[: limit or None]
    detector, reader = train(recipe.detector), train(recipe.reader)
    digest = [digest_of(place.run(part)) for part in (recipe.detector, recipe.reader)]
    folder, passes = place.run(recipe.reader), DATA[recipe.data].num_passes
    for decoder in recipe.decoders:
        settings = decoders.settings_of(decoder, reader.agent, folder, passes, digest[1], limit)

        def measure(decoder: str = decoder, settings: dict[str, Any] = settings) -> Score:
            with decoders.using(reader.agent, settings):
                measured = _measured(detector.agent, reader.agent, task, pages)
            measured["settings"] |= without_folders(settings)
            return Score(
                recipe=name, data=recipe.data, learned_from=recipe.data, decoder=decoder,
                split=split_of(recipe.data), num=len(pages), **measured,
            )  # fmt: skip

        place.run(name).mkdir(parents=True, exist_ok=True)
        yield Kept(place.run(name) / FILE).score([digest, repr(task), settings, limit], measure)


def pages_of_test(task: PageLines) -> list[PageFile]:
    """Return the pages whose lines are the test split, in their order."""
    lines = task.index.ranges[SPLIT]
    return [task.pages[at] for at in sorted({task.index.lines[line].group for line in lines})]


def _measured(
    detector: Agent, reader: Agent, task: PageLines, pages: list[PageFile]
) -> dict[str, Any]:
    """Return rates and milliseconds of CPU time a page, from its file to its text."""
    assert isinstance(reader, LineReader)
    both = PageReader(detector=detector, reader=reader)
    begun = time.process_time()
    read = [both.read(page.image).lines for page in pages]
    seconds = time.process_time() - begun
    right = [read_page(task.root / f"{page.name}.xml").lines for page in pages]
    errors = [page_errors(a, b, task.unicode_form) for a, b in zip(read, right, strict=True)]
    rates = functools.reduce(operator.add, errors).rates()
    return {
        "agent": f"{detector.name}, {reader.name}",
        "parameters": sum(p.numel() for m in (detector, reader) for p in m.model.parameters()),
        "ms": 1000 * seconds / len(pages),
        "values": {"cer": rates.pop("page_cer"), "wer": rates.pop("page_wer")},
        "settings": rates,
    }
