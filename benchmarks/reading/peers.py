"""Scores of kraken, which runs in its own environment, by the functions that score the agents."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.environments import ENVIRONMENTS, prepare
from benchmarks.measure import ChildError, last_line, run_child, tell
from benchmarks.reading.recipes import DATA, PeerRecipe
from benchmarks.reading.runs import Place
from benchmarks.reading.scores import FILE, SPLIT, Kept, Score, batches_of, judge_texts, split_of
from tasks.core.settings import TerrariumError
from tasks.handwriting.boxes import Boxes
from tasks.handwriting.page_xml import PageLines
from tasks.handwriting.pages import Pages
from tasks.handwriting.precision import average_precision
from tasks.handwriting.texts import normalized

_NAME, _MODULE = "kraken", "benchmarks.peers.kraken_reader"


class PeerError(TerrariumError):
    """A peer cannot be installed or run; the message says why."""


class _Job(NamedTuple):
    """What a recipe needs: interpreter, pages by split, and its run folder."""

    python: Path
    pages: Path
    folder: Path


def scores_of(name: str, recipe: PeerRecipe, place: Place, limit: int = 0) -> Iterator[Score]:
    """Yield the score of a recipe; it is trained, or resumed, if it is not finished.

    Args:
        name: of the recipe, and of its run folder.
        recipe: says data, and how it is trained.
        place: of runs and data.
        limit: lines or pages that are scored; 0: all.

    Raises:
        PeerError: it cannot be installed or run.
        ConfigError: the data are missing.
    """
    task, of = place.task(recipe.data), DATA[recipe.data].folder
    assert place.data is not None, "the task is read from files"
    assert of is not None
    prepared = prepare(_NAME)
    if prepared.python is None:
        raise PeerError(f"could not install {_NAME}: {prepared.reason}")
    job = _Job(prepared.python, place.data / of, place.run(name))
    job.folder.mkdir(parents=True, exist_ok=True)

    def measure() -> Score:
        if isinstance(task, Pages):
            return _segmented(name, recipe, task, job)
        assert isinstance(task, PageLines)
        return _read(name, recipe, task, job, limit)

    yield Kept(job.folder / FILE).score([recipe.training, repr(task), limit], measure)


def _read(name: str, recipe: PeerRecipe, task: PageLines, job: _Job, limit: int) -> Score:
    """Train, read the lines of the test, and score what is read."""
    cache, answers = job.folder.parent / f"{_NAME}-{job.pages.name}", job.folder / "texts.json"
    _run(job, "compile", str(job.pages), str(cache))
    spent = _run(job, "train", str(cache), str(job.folder), *(recipe.training or ()))
    found = _run(job, "read", str(job.folder), str(job.pages / SPLIT), str(answers))
    texts = json.loads(answers.read_text(encoding="utf-8"))
    batches = batches_of(task, limit)
    names = [line for batch in batches for line in task.names_of(batch)]
    missing = [line for line in names if _own_name(line) not in texts]
    if missing:
        tell(f"{name}: {len(missing)} lines were not read, such as {missing[0]}")
    read = [normalized(texts.get(_own_name(line), ""), task.unicode_form) for line in names]
    return Score(
        recipe=name, agent=_NAME, data=recipe.data, learned_from=recipe.data,
        split=split_of(recipe.data), decoder="greedy", num=len(names), ms=found["ms"],
        parameters=found["parameters"], train_wall_seconds=spent["wall_seconds"],
        train_cpu_seconds=spent["cpu_seconds"], threads=1,
        settings={"passes": spent["pass"], "ms_with_lines": found["ms_with_lines"]},
        **judge_texts(task, batches, read),
    )  # fmt: skip


def _own_name(line: str) -> str:
    """Return the name of a line without the folder of its page, as the peer says it."""
    return line.rpartition("/")[2]


def _segmented(name: str, recipe: PeerRecipe, task: Pages, job: _Job) -> Score:
    """Find the lines of the test pages, and score their boxes, in pixels of the pages."""
    answers = job.folder / "boxes.json"
    found = _run(job, "segment", str(job.pages / SPLIT), str(answers))
    boxes = json.loads(answers.read_text(encoding="utf-8"))
    pages = task.index.pages[SPLIT]
    read = [_boxes(boxes[Path(page.name).stem]) for page in pages]
    right = [Boxes(page.boxes, page.kinds, np.ones(len(page.kinds))) for page in pages]
    return Score(
        recipe=name, agent=_NAME, data=recipe.data, learned_from="its own pages",
        split=split_of(recipe.data), decoder="", num=len(pages), parameters=None,
        values=average_precision(read, right, len(task.spec.kinds)), ms=found["ms"],
    )  # fmt: skip


def _boxes(corners: Sequence[Sequence[float]]) -> Boxes:
    """Return boxes of the first kind, which are equally sure."""
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    return Boxes(boxes, np.zeros(len(boxes), np.int64), np.ones(len(boxes)))


def _run(job: _Job, *arguments: str) -> dict[str, Any]:
    """Run the peer and return what it reports.

    Raises:
        PeerError: it failed.
    """
    try:
        output = run_child(
            [str(job.python), "-m", _MODULE, *arguments], ENVIRONMENTS[_NAME].variables
        )
        found: dict[str, Any] = json.loads(last_line(output))
    except (ChildError, ValueError) as error:
        raise PeerError(f"{_NAME} {arguments[0]}: {error}") from None
    return found
