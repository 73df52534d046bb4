"""Two agents on the same questions: which answers are right, and what else they share."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

import tasks
from agents.core.agent import Agent
from agents.core.config import ConfigError, flat_settings
from agents.core.inspection.recurrent import match_agents
from tasks.core.task import ProbeTargets
from visualization.core.preserve import preserve_state
from visualization.recurrent import AnswerAgreement, compare_answers
from visualization.report import Report

NUM_QUESTIONS = 10_000
_NAMED = 3  # settings at most that tell two agents apart


def compare(a: Agent, b: Agent) -> Report:
    """Answer A's test questions with both and return what they share, and what they do not.

    Raises:
        ConfigError: (a ValueError) the agents are on different tasks.
    """
    if a.task.name != b.task.name:
        problem = f"the second run is on {b.task.name}, the first on {a.task.name}"
        raise ConfigError("--mode compare", "task", problem, f"two runs on {a.task.name}")
    first, second = tasks.settings_of(a.task), tasks.settings_of(b.task)
    for share in ("test", "validation"):
        if first.get(share) != second.get(share):
            problem = (
                f"is {first.get(share)} in the first run and {second.get(share)} in the second"
            )
            raise ConfigError("--mode compare", f"task.{share}", problem, "the same share")
    names = _names(a, b)
    records: dict[str, Any] = {"answers": _overlap(a, b, names)}
    with preserve_state(a.model), preserve_state(b.model):
        records["units"] = match_agents((a.observe, a.task), (b.observe, b.task), names)
    return Report(f"{names[0]} against {names[1]}: {a.name} on {a.task.name}", records)


def _names(a: Agent, b: Agent) -> tuple[str, str]:
    """Return what tells the two apart: agents, or the settings in which they differ, or order."""
    if a.name != b.name:
        return a.name, b.name
    first, second = flat_settings(a.identity()), flat_settings(b.identity())
    differ = [name for name in first if first[name] != second.get(name)]
    if not differ:
        return "the first", "the second"
    shown = differ[:_NAMED]

    def words(found: dict[str, Any]) -> str:
        return ", ".join(f"{name.removeprefix('task.')}={found.get(name)}" for name in shown)

    return words(first), words(second)


def _overlap(a: Agent, b: Agent, names: tuple[str, str]) -> AnswerAgreement:
    batch = a.task.samples("test", NUM_QUESTIONS)
    asked = a.task.rows(a.task.targets(batch), batch)
    questions = [row.question for row in asked]
    rights, places, known = [], [], a.task.probe_targets(batch)
    for agent in (a, b):
        own = batch if agent.task == a.task else agent.task.encode(questions)
        again = agent.task.rows(agent.task.targets(own), own)
        if not _are_same([row.target for row in again], [row.target for row in asked]):
            problem = "the first run's questions have other answers in the second run's task"
            accepted = "two runs on the same data, with samples of one length"
            raise ConfigError("--mode compare", "task", problem, accepted)
        answers, targets = agent.predict_arrays(own), agent.task.targets(own)
        rights.append([row.correct for row in agent.task.rows(answers, own)])
        same = np.array(rights[-1])[:, None]
        if _are_codes(answers) and _are_codes(targets) and answers.shape == targets.shape:
            same = answers == targets
        places.append(_by_place(same, agent.task.probe_targets(own)))
    all_known = {**known.decoder, **known.encoder}
    groups = {name: values for name, values in all_known.items() if values.ndim == 1}
    wide = max(p.shape[1] for p in places)
    first, second = (
        np.pad(p, ((0, 0), (0, wide - p.shape[1])), constant_values=np.nan) for p in places
    )
    return compare_answers(
        *rights, groups=groups, positions=(first, second),
        position_name=known.position_keys[1] or "position in the answer", labels=questions,
        names=names,
    )  # fmt: skip


def _are_codes(values: Any) -> TypeGuard[NDArray[np.integer[Any]]]:
    """Tell whether values are codes (N, A): numbers are right within a tolerance, others whole."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "iub" and values.ndim == 2


def _are_same(targets: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether right answers are the same; of numbers, but for what writing them down loses."""
    try:
        first, second = (np.array(words, np.float64) for words in (targets, others))
    except ValueError:
        return list(targets) == list(others)
    return bool(np.allclose(first, second, rtol=0.0, atol=1e-3))


def _by_place(right: NDArray[np.bool_], known: ProbeTargets) -> NDArray[np.float64]:
    """Return whether each place (N, P) was right, for characters (N, A) in any order; NaN: none."""
    if not known.position_keys[1]:
        return right.astype(np.float64)
    place = known.decoder[known.position_keys[1]]
    sorted_ = np.full((len(right), int(place.max()) + 1), np.nan)
    samples, steps = np.nonzero(place >= 0)
    sorted_[samples, place[samples, steps]] = right[samples, steps]
    return sorted_
