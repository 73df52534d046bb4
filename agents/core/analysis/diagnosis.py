"""Diagnosis of training: evidence from a run and from short trials, and verdicts on it."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.core.agent import Agent
from agents.core.analysis import trials
from agents.core.inspection.run import settings_of
from agents.core.runs.history import Record
from agents.core.training import monitoring
from agents.core.training.loop import total_steps
from agents.core.training.step_record import DivergedError
from tasks.core import earlier_names
from tasks.core.batch import Batch, num_samples
from tasks.core.settings import fields
from tasks.core.task import Task
from visualization.diagnosis import Diagnosis, Leak, RunEvidence, diagnose
from visualization.report import Report

NUM_TRAINED = 20_000  # training questions in which validation questions are searched
_FEW_QUESTIONS = 1000  # different ones: of more, some can be withheld
_TRIAL_STEPS = (300, 150, 75)  # few choices, so that verdicts are comparable
_TRIAL_WORK = 2e11  # multiply-adds of a trial's forward passes: about half a minute on one core
_LENGTH_TRIAL_STEPS = (600, 300, 150, 75)  # of trials by length: short sequences need more
_RUN_STEPS = (1000, 500, 250, 125)  # of the short run of an untrained agent
_RUN_WORK = 3e11  # multiply-adds of its forward passes
_RECORDS, _EVALUATIONS = 40, 8  # of that run
_MAX_LR = 100.0  # of the range test
Progress = Callable[[str], None]


def collect_evidence(
    agent: Agent, steps: int | None = None, progress: Progress | None = None, diverged: bool = False
) -> RunEvidence:
    """Collect the evidence of a diagnosis: the agent's history, and results of short trials.

    Without a history, an untrained copy of the agent is trained in a short run.

    Args:
        agent: the agent; it is unchanged.
        steps: of each trial, and half of a trial by length; None: 300 (600), or fewer where a
            trial would take more than 2e11 multiply-adds; `RunEvidence.shortened` says so.
        progress: called with a few words on each trial.
        diverged: whether the agent's run ended because the loss was not finite.
    """
    notify = progress or _ignore
    trained = agent
    if not agent.history.tags():
        notify("a short run, for there is no history")
        trained, diverged = _short_run(agent)
    num, num_by_length, shortened = (steps, 2 * steps, "") if steps else _steps_of_trials(agent)
    notify(f"one batch by heart, an easy task: {num} steps each")
    one_batch, easy = trials.overfit_one_batch(agent, num), trials.train_on_easy_task(agent, num)
    notify("learning-rate range test")
    rates = trials.range_test(agent, highest=_max_lr(agent))
    notify("shorter sequences")
    lengths = trials.train_by_length(agent, num_by_length)
    notify("other sizes, and the suggested rate")
    sizes = trials.train_by_size(agent, num)
    if rates.suggestion is not None:
        sizes |= trials.train_at_lr(agent, rates.suggestion, num)
    notify("validation questions among those of training")
    return RunEvidence(
        title=f"{agent.name} on {agent.task.name}, step {trained.state.cursor.step}",
        records=records_of(trained),
        settings=settings_of(agent),
        monitor=agent.task.monitor,
        diverged=diverged,
        one_batch=one_batch,
        synthetic=easy,
        rates=rates,
        lengths=lengths,
        sizes=sizes,
        leak=count_leaks(agent.task, agent.config.eval_samples, agent.config.seed),
        shortened=shortened,
    )


def diagnose_agent(
    agent: Agent, steps: int | None = None, progress: Progress | None = None, diverged: bool = False
) -> Report:
    """Diagnose an agent and return a report: a summary, then each question with its evidence."""
    evidence = collect_evidence(agent, steps, progress, diverged)
    diagnosis: Diagnosis = diagnose(evidence)
    records: dict[str, Any] = {"summary": diagnosis}
    records |= {f.question: f for f in diagnosis.findings if f.answer.evidence is not None}
    return Report(f"Diagnosis of {evidence.title}", records)


def records_of(agent: Agent) -> list[Record]:
    """Return the history; of a run without diagnostics, with those of its present weights."""
    records = agent.history.records
    if "chance/loss" in agent.history.tags():
        return records
    batch = agent.task.samples("validation", agent.config.eval_samples)
    return [
        *records,
        {"step": agent.state.cursor.step, **monitoring.training_diagnostics(agent, batch)},
    ]


def count_leaks(task: Task, num: int, seed: int) -> Leak | None:
    """Data leakage: count validation questions among the first training questions of a run.

    Training questions are those of the task's last stage, at most 20,000. A question is the entry
    of a sample in the first field of a batch; a batch of a class of its own has none to compare.
    """
    if isinstance(task.samples("validation", 1), Batch):
        return None
    questions = task.samples("validation", num)[0]
    validation = _keys(questions)
    batches = itertools.chain.from_iterable(
        task.batches("train", 1000, seed, epoch) for epoch in itertools.count()
    )
    trained: set[bytes] = set()
    num_trained = 0
    for batch in batches:
        trained.update(_keys(batch[0]))
        num_trained += num_samples(batch)
        if num_trained >= min(NUM_TRAINED, task.num_samples_in("train")):
            break
    same_size = [k for k in trained if len(k) == len(validation[0])] if validation else []
    shared = sum(key in trained for key in validation)
    is_array = isinstance(questions, np.ndarray)
    return Leak(shared, len(validation), len(trained), is_array and _are_all(same_size, questions))


def _are_all(keys: list[bytes], like: NDArray[Any]) -> bool:
    """Tell whether these few questions are all combinations of the codes at each position."""
    if not 0 < len(keys) <= _FEW_QUESTIONS:
        return False
    positions = np.array([np.frombuffer(key, like.dtype) for key in keys]).T
    return math.prod(len(np.unique(codes)) for codes in positions) == len(keys)


def _keys(questions: Any) -> list[bytes]:
    return [np.ascontiguousarray(question).tobytes() for question in questions]


def _short_run(agent: Agent) -> tuple[Agent, bool]:
    """Return an untrained copy of an agent after a short run, and whether that diverged."""
    num = _choose_steps(trials.work_of_step(agent), _RUN_STEPS, _RUN_WORK)
    num = min(num, total_steps(agent.config, agent.task))
    changes: dict[str, Any] = {
        "steps": num,
        "epochs": None,
        "log_every": max(1, num // _RECORDS),
        "eval_every": max(1, num // _EVALUATIONS),
        "record_diagnostics": True,
        "patience": None,
        "target_score": None,
        "target_loss": None,
    }
    names = fields(type(agent.config))
    learner = trials.untrained_copy(agent, **{n: v for n, v in changes.items() if n in names})
    try:
        learner.learn(progress=False)
    except DivergedError:
        return learner, True
    return learner, False


def _max_lr(agent: Agent) -> float:
    """Return the highest rate of the range test: above the agent's, but at most 100."""
    rate: float = agent.config.learning_rate
    return min(max(1.0, 10 * rate), _MAX_LR)


def _choose_steps(work: int, choices: tuple[int, ...], most: float) -> int:
    """Return the largest number of steps whose work is at most `most`; at least the smallest."""
    return next((num for num in choices if num * work <= most), choices[-1])


def _steps_of_trials(agent: Agent) -> tuple[int, int, str]:
    """Return the steps of a trial, those of one by length, and a note if they are fewer."""
    work = trials.work_of_step(agent)
    steps, by_length = (
        _choose_steps(work, _TRIAL_STEPS, _TRIAL_WORK),
        _choose_steps(work, _LENGTH_TRIAL_STEPS, _TRIAL_WORK),
    )
    if (steps, by_length) == (_TRIAL_STEPS[0], _LENGTH_TRIAL_STEPS[0]):
        return steps, by_length, ""
    shortened = (
        f"trials took {steps} steps in place of {_TRIAL_STEPS[0]}, by length {by_length} in place "
        f"of {_LENGTH_TRIAL_STEPS[0]}, for one step takes {work:.1e} multiply-adds"
    )
    return steps, by_length, shortened


def _ignore(message: str) -> None:
    """Ignore a message."""


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
