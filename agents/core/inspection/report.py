"""Inspection of an agent: its views as a report."""

import collections
import contextlib
import functools
import inspect as inspection
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from agents.core.inspection import side_by_side
from agents.core.inspection.overview import overview
from agents.core.inspection.views import group_of
from agents.core.runs import sinks
from tasks.core.settings import ConfigError, nearest
from visualization import NothingToShow
from visualization.model.cost import CostCounter, CostTable
from visualization.records import AnswerTable, Transcript, record_or_reason
from visualization.renderers import Renderer, load_matplotlib, png
from visualization.report import Report, flat

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_SEARCHED = 2000  # test samples in which wrong answers are searched
NUM_WRONG = 20  # that are shown


def inspect(
    agent: "AgentProtocol",
    views: Sequence[str] | None,
    progress: bool,
    renderer: Renderer,
    processes: int = 1,
) -> Report:
    """Return a report of some views, or of all; see `Agent.inspect`."""
    functions: dict[str, Callable[[], Any]] = {
        "summary": functools.partial(cost, agent),
        "learning_curves": agent.history.curves,
        "wrong_answers": functools.partial(wrong_answers, agent),
        **agent.views(),
    }
    for name in views or ():
        if name not in functions:
            problem = f"{name!r} is not a view of {agent.name}"
            raise ConfigError("views", "", problem, ", ".join(functions), nearest(name, functions))
    chosen = {n: function for n, function in functions.items() if views is None or n in views}
    looks = _looks(chosen, views is not None, processes)
    sink, records = sinks.console(progress), dict[str, Any]()
    for number, (name, look) in enumerate(looks, start=1):
        records[name] = look.record
        for part, record in flat(name, look.record):
            if part in look.pictures:
                renderer.keep(part, look.pictures[part])
            else:
                renderer.announce(part, record)
        sink.info(f"{number} of {len(chosen)}: {name}, {look.seconds:.1f} s")
    title = f"{agent.name} on {agent.task.name}, step {agent.state.cursor.step}"
    ordered = {name: records[name] for name in chosen}
    sentences = {name: _sentence(function) for name, function in chosen.items()}
    return Report(title, ordered, renderer, overview(ordered), sentences)


def _sentence(function: Callable[[], Any]) -> str:
    """Return the first paragraph of a view's docstring, as one line."""
    documented = function.func if isinstance(function, functools.partial) else function
    paragraph = (inspection.getdoc(documented) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


@attrs.frozen
class _Look:
    """What a view gives: its record, its figures if they are drawn already, and the time taken."""

    record: Any
    pictures: Mapping[str, bytes]
    seconds: float

    @staticmethod
    def at(name: str, view: Callable[[], Any], by_name: bool, draws: bool) -> "_Look":
        """Compute a view, and draw its figures; those that cannot be drawn are left out."""
        begin, pictures = time.perf_counter(), dict[str, bytes]()
        view_record = record_or_reason(view, by_name)
        for part, record in flat(name, view_record) if draws else ():
            with contextlib.suppress(Exception):  # which is raised by who draws it again
                pictures[part] = png(record)
        return _Look(view_record, pictures, time.perf_counter() - begin)


def _looks(
    views: Mapping[str, Callable[[], Any]], by_name: bool, processes: int
) -> Iterator[tuple[str, _Look]]:
    """Yield what views give when it is there: one after the other, or side by side."""
    if processes == 1:
        for name, view in views.items():
            yield name, _Look.at(name, view, by_name, draws=False)
        return
    load_matplotlib()
    groups = {name: group for name, view in views.items() if (group := group_of(view)) is not None}
    for group in dict.fromkeys(groups.values()):
        with contextlib.suppress(NothingToShow):  # which each view says for itself
            group.prepare()
    works = {
        name: functools.partial(_Look.at, name, view, by_name, draws=True)
        for name, view in views.items()
    }
    uses = {name: group.uses(name) for name, group in groups.items()}
    # Views that several others use, and that are not chosen, have no process of their own.
    users = collections.Counter(
        (groups[name], used) for name in groups for used in uses[name] if used not in views
    )
    for group, used in (each for each, num in users.items() if num > 1):
        with contextlib.suppress(NothingToShow):
            getattr(group, used)()
    for name, look in side_by_side.compute(works, uses, processes):
        if name in groups and not isinstance(look.record, Transcript):  # which says a reason
            groups[name].records[name] = look.record
        yield name, look


def wrong_answers(agent: "AgentProtocol", num: int = NUM_WRONG) -> AnswerTable:
    """Wrong answers: the first questions of the test split that went wrong, of 2,000."""
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
