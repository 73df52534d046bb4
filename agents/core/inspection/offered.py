"""The views that an agent has: those of all groups whose needs it meets."""

import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents.core.inspection import attention, boxes, images, model, recurrent
from agents.core.inspection.views import NEEDS, NUM_REPRESENTED, VIEWS

if TYPE_CHECKING:
    from agents.core.inspection.inspected import Inspected
    from tasks.core.task import Task

GROUPS = (attention, boxes, images, model, recurrent)  # which register their views in VIEWS
MOST_CLASSES, FEWEST = 50, 5  # of probes: right answers, and samples of each


def _are_classes(task: "Task") -> bool:
    """Tell whether right answers are few and frequent enough to be told apart by a probe."""
    batch = task.for_display().samples("test", NUM_REPRESENTED)
    answers = collections.Counter(row.target for row in task.rows(task.targets(batch), batch))
    return 2 <= len(answers) <= MOST_CLASSES and min(answers.values()) >= FEWEST


def views_of(agent: "Inspected") -> dict[str, Callable[[], Any]]:
    """Return the views whose needs an agent meets, by name: functions without arguments."""
    seen = agent.observe(agent.task.for_display().samples("test", 2))
    met = {word for word, holds in NEEDS.items() if holds(seen)}
    if agent.snapshots.steps():
        met.add("snapshots")
    if _are_classes(agent.task):
        met.add("few answers")
    groups = {each.group: each.group(agent) for each in VIEWS.values()}
    return {
        each.name: getattr(groups[each.group], each.name)
        for each in VIEWS.values()
        if met.issuperset(each.needs)
    }
