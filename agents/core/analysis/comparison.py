"""Comparison of two agents on the same questions: answers and units."""

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
_NUM_NAMED = 3  # different settings in the name of an agent, at most


def compare(a: Agent, b: Agent) -> Report:
    """Compare two agents on the test questions of the first, and return a report.

    Raises:
        ConfigError: (a ValueError) the agents are on different tasks.
    """
    if a.task.name != b.task.name:
        problem = f"the second run is on {b.task.name}, the first on {a.task.name}"
        raise ConfigError("--mode compare", "task", problem, f"two runs on {a.task.name}")
    first, second = tasks.settings_of(a.task), tasks.settings_of(b.task)
    for split in ("test", "validation"):
        if first.get(split) != second.get(split):
            problem = (
                f"is {first.get(split)} in the first run and {second.get(split)} in the second"
            )
            raise ConfigError("--mode compare", f"task.{split}", problem, "the same share")
    names = _names(a, b)
    records: dict[str, Any] = {"answers": _overlap(a, b, names)}
    with preserve_state(a.model), preserve_state(b.model):
        records["units"] = match_agents((a.observe, a.task), (b.observe, b.task), names)
    return Report(f"{names[0]} against {names[1]}: {a.name} on {a.task.name}", records)


def _names(a: Agent, b: Agent) -> tuple[str, str]:
    """Return names of two agents: class names, different settings, or their order."""
    if a.name != b.name:
        return a.name, b.name
    first, second = flat_settings(a.identity()), flat_settings(b.identity())
    different = [name for name in first if first[name] != second.get(name)]
    if not different:
        return "the first", "the second"
    shown = different[:_NUM_NAMED]

    def describe(settings: dict[str, Any]) -> str:
        return ", ".join(f"{name.removeprefix('task.')}={settings.get(name)}" for name in shown)

    return describe(first), describe(second)


def _overlap(a: Agent, b: Agent, names: tuple[str, str]) -> AnswerAgreement:
    batch = a.task.samples("test", NUM_QUESTIONS)
    target_rows = a.task.rows(a.task.targets(batch), batch)
    questions = [row.question for row in target_rows]
    correct, positions, probe_targets = [], [], a.task.probe_targets(batch)
    for agent in (a, b):
        own = batch if agent.task == a.task else agent.task.encode(questions)
        own_rows = agent.task.rows(agent.task.targets(own), own)
        if not _are_same([r.target for r in own_rows], [r.target for r in target_rows]):
            problem = "the first run's questions have other answers in the second run's task"
            accepted = "two runs on the same data, with samples of one length"
            raise ConfigError("--mode compare", "task", problem, accepted)
        answers, targets = agent.predict_arrays(own), agent.task.targets(own)
        correct.append([row.correct for row in agent.task.rows(answers, own)])
        is_right = np.array(correct[-1])[:, None]
        if _are_codes(answers) and _are_codes(targets) and answers.shape == targets.shape:
            is_right = answers == targets
        positions.append(_by_position(is_right, agent.task.probe_targets(own)))
    all_targets = {**probe_targets.decoder, **probe_targets.encoder}
    groups = {name: values for name, values in all_targets.items() if values.ndim == 1}
    num = max(p.shape[1] for p in positions)
    first, second = (
        np.pad(p, ((0, 0), (0, num - p.shape[1])), constant_values=np.nan) for p in positions
    )
    return compare_answers(
        *correct, groups=groups, positions=(first, second),
        position_name=probe_targets.position_keys[1] or "position in the answer", labels=questions,
        names=names,
    )  # fmt: skip


def _are_codes(values: Any) -> TypeGuard[NDArray[np.integer[Any]]]:
    """Tell whether values are codes (N, A), which are compared position by position."""
    return isinstance(values, np.ndarray) and values.dtype.kind in "iub" and values.ndim == 2


def _are_same(targets: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether targets are the same; numbers, within the rounding of their text."""
    try:
        first, second = (np.array(words, np.float64) for words in (targets, others))
    except ValueError:
        return list(targets) == list(others)
    return bool(np.allclose(first, second, rtol=0.0, atol=1e-3))


def _by_position(is_right: NDArray[np.bool_], probe_targets: ProbeTargets) -> NDArray[np.float64]:
    """Return whether each position (N, P) is right, from characters (N, A) in any order.

    NaN: a sample does not have the position.
    """
    key = probe_targets.position_keys[1]
    if not key:
        return is_right.astype(np.float64)
    position = probe_targets.decoder[key]
    by_position = np.full((len(is_right), int(position.max()) + 1), np.nan)
    samples, steps = np.nonzero(position >= 0)
    by_position[samples, position[samples, steps]] = is_right[samples, steps]
    return by_position
