"""Scores of one agent on one split with one decoder, with the worst errors; kept in its folder."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from agents.core.agent import Agent
from agents.core.runs.checkpoint import atomic_write
from agents.core.runs.run_folder import BEST
from benchmarks.reading import decoders, errors
from benchmarks.reading.errors import Error
from benchmarks.reading.recipes import BATCH_SIZE, DATA, NUM_WORST, Recipe
from benchmarks.reading.runs import Place, Trained
from tasks.core.batch import num_samples, take
from tasks.core.task import Split, Task
from tasks.handwriting.boxes import BoxTask, joined
from tasks.handwriting.lines import error_rates

FILE = "scores.json"  # in a run folder
SPLIT: Split = "test"


@attrs.frozen(kw_only=True)
class Score:
    """A row of the table. Rates and shares are from 0 to 1; None: not of this row.

    Attributes:
        recipe: its name, and that of its run folder.
        data: name of the data that were read.
        split: what was read, and what of it is not in the training.
        learned_from: name of the data that it learned from.
        num: lines or pages that were read.
        values: `cer`, `wer` and `exact` of lines; `AP50` and `mAP` of pages.
        ms: milliseconds of CPU time a line or page, reading only.
        complete: false where a process that took part in the training was killed: its time is
            missing from the seconds.
    """

    recipe: str
    agent: str
    data: str
    split: str
    learned_from: str
    decoder: str
    num: int
    values: Mapping[str, float]
    parameters: int | None
    ms: float | None
    train_wall_seconds: float | None = None
    train_cpu_seconds: float | None = None
    threads: int | None = None
    complete: bool = True
    settings: Mapping[str, Any] = attrs.Factory(dict)
    worst: Sequence[Error] = ()


def scores_of(
    name: str, recipe: Recipe, data: str, place: Place, trained: Trained, limit: int = 0
) -> Iterator[Score]:
    """Yield the scores of an agent by decoder; those that are kept already are not measured again.

    Args:
        name: of the recipe.
        recipe: says the decoders.
        data: name of what is read.
        place: of runs and data.
        trained: the agent with the weights that are scored, and their cost.
        limit: lines or pages that are read; 0: all.

    Raises:
        ConfigError: the data are missing.
    """
    agent, training, task = *trained, place.task(data)
    folder = place.run(name)
    digest = digest_of(folder)
    kept = Kept(folder / FILE)
    for decoder in recipe.decoders:
        passes = DATA[recipe.data].num_passes
        settings = decoders.settings_of(decoder, agent, folder, passes, digest, limit)

        def measure(decoder: str = decoder, settings: Mapping[str, Any] = settings) -> Score:
            with decoders.using(agent, settings):
                return Score(
                    recipe=name, agent=recipe.agent, data=data, learned_from=recipe.data,
                    split=split_of(data), decoder=decoder, settings=without_folders(settings),
                    parameters=sum(p.numel() for p in agent.model.parameters()),
                    **_measured(agent, task, limit),
                )  # fmt: skip

        yield attrs.evolve(
            kept.score([digest, data, repr(task), decoder, settings, limit], measure),
            train_wall_seconds=training.wall_seconds, train_cpu_seconds=training.cpu_seconds,
            threads=training.threads, complete=training.is_whole,
        )  # fmt: skip


def digest_of(folder: Path) -> str:
    """Return a hash of the best weights of a run."""
    return hashlib.blake2b((folder / BEST).read_bytes(), digest_size=16).hexdigest()


def without_folders(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a decoder, with the names of files in place of their paths."""
    return {name: Path(v).name if isinstance(v, str) else v for name, v in settings.items()}


def split_of(data: str) -> str:
    """Return what of data is read, and what of it is not in the training, for the table."""
    return f"{SPLIT}: unseen {DATA[data].withheld}"


@attrs.frozen
class Kept:
    """Scores in a file, by all that they depend on."""

    path: Path

    def score(self, depends_on: Sequence[Any], measure: Callable[[], Score]) -> Score:
        """Return the score that is kept; one that is not there is measured, and kept."""
        known = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        key = json.dumps(depends_on)
        if key not in known:
            known[key] = attrs.asdict(measure())
            atomic_write(self.path, json.dumps(known, ensure_ascii=False).encode())
        worst = [Error(**error) for error in known[key]["worst"]]
        return Score(**{**known[key], "worst": worst})


def _measured(agent: Agent, task: Task, limit: int) -> dict[str, Any]:
    """Return number, scores, milliseconds and worst errors of the test split.

    Only `predict_arrays` is timed, after one line by which files are read: lines are in memory, and
    in batches of similar width.
    """
    batches = batches_of(task, limit)
    agent.predict_arrays(take(batches[0], 0, 1))
    begun = time.process_time()
    answers = [agent.predict_arrays(batch) for batch in batches]
    seconds = time.process_time() - begun
    num = sum(map(num_samples, batches))
    if isinstance(task, BoxTask):
        found, pages = [page for answer in answers for page in answer], joined(batches)
        worst = errors.worst_pages(task, found, pages, NUM_WORST)
        judged: dict[str, Any] = {"values": task.score(found, pages), "worst": worst}
    else:
        # The agent's characters may be others than those of the task that it reads.
        read = [text for answer in answers for text in agent.task.decode(answer)]
        judged = judge_texts(task, batches, read)
    return {"num": num, "ms": 1000 * seconds / num, **judged}


def judge_texts(task: Task, batches: Sequence[Any], read: Sequence[str]) -> dict[str, Any]:
    """Return the error rates of texts read in batches of lines, and the worst of them."""
    right = [text for batch in batches for text in task.decode(task.targets(batch))]
    worst = errors.worst_lines(task, batches, read, right, NUM_WORST)
    return {"values": error_rates(read, right), "worst": worst}


def batches_of(task: Task, limit: int) -> list[Any]:
    """Return the batches of the test split, at most `limit` samples; 0: all."""
    batches, left = [], limit or task.num_samples_in(SPLIT)
    for batch in task.batches(SPLIT, BATCH_SIZE, 0, 0):
        if left <= 0:
            break
        batches.append(take(batch, 0, min(left, num_samples(batch))))
        left -= num_samples(batch)
    return batches
