"""Views of an agent: those of all groups whose requirements it meets."""

import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents.core.inspection import (
    attention,
    boxes,
    confidence,
    images,
    model,
    recurrent,
    relevance,
    synthesis,
)
from agents.core.inspection.views import NEEDS, NUM_REPRESENTED, VIEWS

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol
    from tasks.core.task import Task

# In the order of a report.
GROUPS = (model, confidence, attention, boxes, images, synthesis, recurrent, relevance)
MAX_CLASSES, MIN_SAMPLES = 50, 5  # of probes: different answers, and samples of each


def _are_classes(task: "Task") -> bool:
    """Tell whether right answers are few and frequent enough for a probe."""
    batch = task.for_display().samples("test", NUM_REPRESENTED)
    answers = collections.Counter(row.target for row in task.rows(task.targets(batch), batch))
    return 2 <= len(answers) <= MAX_CLASSES and min(answers.values()) >= MIN_SAMPLES


def views_of(agent: "AgentProtocol") -> dict[str, Callable[[], Any]]:
    """Return the views whose requirements an agent meets, by name; each returns records."""
    observation = agent.observe(agent.task.for_display().samples("test", 2))
    met = {need for need, is_met in NEEDS.items() if is_met(observation)}
    if agent.snapshots.steps():
        met.add("snapshots")
    if _are_classes(agent.task):
        met.add("few answers")
    groups = {each.group: each.group(agent) for each in VIEWS.values()}
    order = [group.__name__ for group in GROUPS]
    views = sorted(VIEWS.values(), key=lambda each: order.index(each.group.__module__))
    return {
        each.name: getattr(groups[each.group], each.name)
        for each in views
        if met.issuperset(each.needs)
    }
