"""Inspection of an agent: its views as a report."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agents.core.runs import sinks
from tasks.core.settings import ConfigError, nearest
from visualization.model.cost import CostCounter, CostTable
from visualization.records import AnswerTable, record_or_reason
from visualization.renderers import Renderer
from visualization.report import Report, flat

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_SEARCHED = 2000  # test samples in which wrong answers are searched
NUM_WRONG = 20  # that are shown


def inspect(
    agent: "AgentProtocol", views: Sequence[str] | None, progress: bool, renderer: Renderer
) -> Report:
    """Return a report of some views, or of all; see `Agent.inspect`."""
    functions: dict[str, Callable[[], Any]] = {
        "summary": lambda: cost(agent),
        "learning_curves": agent.history.curves,
        "wrong_answers": lambda: wrong_answers(agent),
        **agent.views(),
    }
    for name in views or ():
        if name not in functions:
            problem = f"{name!r} is not a view of {agent.name}"
            raise ConfigError("views", "", problem, ", ".join(functions), nearest(name, functions))
    chosen = [name for name in functions if views is None or name in views]
    records = {}
    for name in sinks.log_progress(chosen, sinks.console(progress)):
        records[name] = record_or_reason(functions[name], views is not None)
        for part, record in flat(name, records[name]):
            renderer.announce(part, record)
    title = f"{agent.name} on {agent.task.name}, step {agent.state.cursor.step}"
    return Report(title, records, renderer)


def wrong_answers(agent: "AgentProtocol", num: int = NUM_WRONG) -> AnswerTable:
    """Wrong answers: the first `num` questions of the test split that went wrong, of 2,000."""
    rows = agent.task.rows(*agent.predict_split("test", NUM_SEARCHED))
    wrong = [row for row in rows if not row.correct]
    return AnswerTable(f"{len(wrong)} of {len(rows)} test questions went wrong", wrong[:num])


def cost(agent: "AgentProtocol") -> CostTable:
    """Cost: parameters and multiply-adds of each layer while the agent answers one sample."""
    counter = CostCounter(agent.model)
    batch = agent.task.samples("test", 1)
    with counter.watch():
        agent.predict_arrays(batch)
    return counter.table(num_samples=1)
