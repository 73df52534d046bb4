"""The doctor for training: examines an agent, and answers why it learns as it does."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.core.agent import Agent
from agents.core.analysis import trials
from agents.core.config import flat_settings
from agents.core.runs.history import Record
from agents.core.training import monitoring
from agents.core.training.loop import DivergedError, total_steps
from tasks.core.batch import Batch, num_samples
from tasks.core.settings import fields
from tasks.core.task import Task
from visualization.diagnosis import Diagnosis, Leak, RunEvidence, diagnose
from visualization.report import Report

NUM_TRAINED = 20_000  # training questions among which validation questions are looked for
_FEW_QUESTIONS = 1000  # different ones: of more, some can be withheld
_CHOICES = (300, 150, 75)  # steps of a trial: few choices, so that verdicts are comparable
_WORK = 2e11  # multiply-adds of a trial's forward passes: half a minute on one core, about
_LONGER = (600, 300, 150, 75)  # of trials by length: even short sequences take their time
_RUN_CHOICES = (1000, 500, 250, 125)  # steps of the run that an untrained agent is examined by
_RUN_WORK = 3e11
_RECORDS, _EVALUATIONS = 40, 8  # of that run
_HIGHEST = 100.0  # learning rate that is tried
Progress = Callable[[str], None]


def examine(
    agent: Agent, steps: int | None = None, progress: Progress | None = None, diverged: bool = False
) -> RunEvidence:
    """Return all that verdicts are drawn from: the agent's history, and what short trials give.

    An agent without a history stands as it is; a fresh one of its kind takes a short run in its
    place.

    Args:
        agent: what is examined; it stays as it is.
        steps: of each trial, and half of a trial by length; None: 300 (600), or fewer where a
            trial would take more than 2e11 multiply-adds, as `Case.shortened` then says.
        progress: told, in a few words, what is being tried.
        diverged: whether the agent's run is known to have ended in numbers that are not finite.
    """
    tell = progress or _silent
    examined = agent
    if not agent.history.tags():
        tell("a short run, for there is no history")
        examined, diverged = _short_run(agent)
    num, longer, shortened = (steps, 2 * steps, "") if steps else _steps_of_trials(agent)
    tell(f"one batch by heart, an easy task: {num} steps each")
    by_heart, easy = trials.overfit_one_batch(agent, num), trials.synthetic(agent, num)
    tell("learning-rate range test")
    rates = trials.range_test(agent, highest=_highest(agent))
    tell("shorter sequences")
    lengths = trials.by_length(agent, longer)
    tell("other sizes, and the suggested rate")
    sizes = trials.by_size(agent, num)
    if rates.suggestion is not None:
        sizes |= trials.at_rate(agent, rates.suggestion, num)
    tell("validation questions among those of training")
    return RunEvidence(
        title=f"{agent.name} on {agent.task.name}, step {examined.state.cursor.step}",
        records=records_of(examined),
        settings=settings_of(agent),
        monitor=agent.task.monitor,
        diverged=diverged,
        one_batch=by_heart,
        synthetic=easy,
        rates=rates,
        lengths=lengths,
        sizes=sizes,
        leak=count_leaks(agent.task, agent.config.eval_samples, agent.config.seed),
        shortened=shortened,
    )


def diagnosis(
    agent: Agent, steps: int | None = None, progress: Progress | None = None, diverged: bool = False
) -> Report:
    """Examine an agent and return a report: a summary, then each question with its evidence."""
    case = examine(agent, steps, progress, diverged)
    found: Diagnosis = diagnose(case)
    records: dict[str, Any] = {"summary": found}
    records |= {f.question: f for f in found.findings if f.answer.evidence is not None}
    return Report(f"Diagnosis of {case.title}", records)


def records_of(agent: Agent) -> list[Record]:
    """Return the history; of a run without vitals with those of the agent as it is now."""
    records = agent.history.records
    if "chance/loss" in agent.history.tags():
        return records
    batch = agent.task.samples("validation", agent.config.eval_samples)
    return [*records, {"step": agent.state.cursor.step, **monitoring.measure(agent, batch)}]


def settings_of(agent: Agent) -> dict[str, Any]:
    """Return all settings, with the validation samples and the stages that there really are."""
    task, config = agent.task, agent.config
    num = num_samples(task.samples("validation", config.eval_samples))
    known = {
        "eval_samples": num, "asked_samples": config.eval_samples, "num_stages": task.num_stages,
    }  # fmt: skip
    return {**flat_settings(agent.identity()), **known}


def count_leaks(task: Task, num: int, seed: int) -> Leak | None:
    """Count the validation questions that stand among the first training questions of a run.

    Training questions are those of the task's last stage, at most 20,000. A question is the entry
    of a sample in the first field of a batch; a batch of a class of its own has none to compare.
    """
    if isinstance(task.samples("validation", 1), Batch):
        return None
    questions = task.samples("validation", num)[0]
    asked = _keys(questions)
    batches = itertools.chain.from_iterable(
        task.batches("train", 1000, seed, epoch) for epoch in itertools.count()
    )
    trained: set[bytes] = set()
    seen = 0
    for batch in batches:
        trained.update(_keys(batch[0]))
        seen += num_samples(batch)
        if seen >= min(NUM_TRAINED, task.num_samples_in("train")):
            break
    alike = [key for key in trained if len(key) == len(asked[0])] if asked else []
    shared = sum(key in trained for key in asked)
    is_array = isinstance(questions, np.ndarray)
    return Leak(shared, len(asked), len(trained), is_array and _are_all(alike, questions))


def _are_all(keys: list[bytes], like: NDArray[Any]) -> bool:
    """Tell whether these few questions are all there are: each code with each at other places."""
    if not 0 < len(keys) <= _FEW_QUESTIONS:
        return False
    places = np.array([np.frombuffer(key, like.dtype) for key in keys]).T
    return math.prod(len(np.unique(place)) for place in places) == len(keys)


def _keys(questions: Any) -> list[bytes]:
    return [np.ascontiguousarray(question).tobytes() for question in questions]


def _short_run(agent: Agent) -> tuple[Agent, bool]:
    """Return a fresh agent after a short run, and whether that diverged."""
    num = _choose(trials.work_of_step(agent), _RUN_CHOICES, _RUN_WORK)
    num = min(num, total_steps(agent.config, agent.task))
    changed: dict[str, Any] = {
        "steps": num,
        "epochs": None,
        "log_every": max(1, num // _RECORDS),
        "eval_every": max(1, num // _EVALUATIONS),
        "record_diagnostics": True,
        "patience": None,
        "target_score": None,
    }
    known = fields(type(agent.config))
    learner = trials.fresh(agent, **{n: v for n, v in changed.items() if n in known})
    try:
        learner.learn(progress=False)
    except DivergedError:
        return learner, True
    return learner, False


def _highest(agent: Agent) -> float:
    """Return the highest rate of the range test: above the agent's, but no higher than 100."""
    rate: float = agent.config.learning_rate
    return min(max(1.0, 10 * rate), _HIGHEST)


def _choose(work: int, choices: tuple[int, ...], most: float) -> int:
    """Return the most steps of so much work that are no more in all; at least the fewest."""
    return next((num for num in choices if num * work <= most), choices[-1])


def _steps_of_trials(agent: Agent) -> tuple[int, int, str]:
    """Return the steps of a trial, those of one by length, and the words for fewer than usual."""
    work = trials.work_of_step(agent)
    steps, longer = _choose(work, _CHOICES, _WORK), _choose(work, _LONGER, _WORK)
    if (steps, longer) == (_CHOICES[0], _LONGER[0]):
        return steps, longer, ""
    shortened = (
        f"trials took {steps} steps in place of {_CHOICES[0]}, by length {longer} in place of "
        f"{_LONGER[0]}, for one step takes {work:.1e} multiply-adds"
    )
    return steps, longer, shortened


def _silent(message: str) -> None:
    """Say nothing."""
