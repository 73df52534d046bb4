"""Views: the inspections of an agent, by what they require of it.

A view is a method of a subclass of `Views` that is marked with `@view(…)`: it is named as the
method, and its requirements are keys of `NEEDS`. It returns a record, or a mapping of names, such
as layers, to records. An agent has the views whose requirements its observation meets; there is no
list of them.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
from torch import Tensor

from agents.core.inspection.observation import Observation

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

NUM_REPRESENTED = 1000  # samples of views of representations

NEEDS: dict[str, Callable[[Observation], bool]] = {
    "recurrent": lambda observation: bool(observation.recurrent),
    "answers": lambda observation: observation.generate is not None,
    "answer scores": lambda observation: (
        bool(observation.recurrent) and observation.answer_scores is not None
    ),
    "step answers": lambda observation: any(
        part.inputs is not None for part in observation.recurrent
    ),
    "images": lambda observation: observation.image is not None,
    "scans": lambda observation: observation.image is not None and observation.image.is_handwriting,
    "classes": lambda observation: (
        observation.image is not None and observation.classes is not None
    ),
    "targets": lambda observation: observation.image is not None and bool(observation.targets),
    "no images": lambda observation: observation.image is None,
    "attention": lambda observation: bool(observation.attention),
    "confidences": lambda observation: bool(observation.confidences),
    "boxes": lambda observation: observation.image is not None and observation.boxes is not None,
}
Method = TypeVar("Method", bound=Callable[..., Any])
_NEEDS_OF: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {}


@attrs.frozen
class View:
    """A view: a method of a class of views, its requirements, and the views that it uses."""

    name: str
    group: "type[Views]"
    needs: tuple[str, ...]
    uses: tuple[str, ...] = ()


VIEWS: dict[tuple[str, str], View] = {}  # by group and name


def view(*needs: str, uses: tuple[str, ...] = ()) -> Callable[[Method], Method]:
    """Mark a method as a view with these requirements, whose records are computed once.

    Args:
        needs: keys of `NEEDS`, or `snapshots` (of the weights), or `few answers` (as of a
            classifier).
        uses: slow views of the same class that this one calls: it is computed after them.
    """

    def mark(method: Method) -> Method:
        @functools.wraps(method)
        def once(self: "Views") -> Any:
            if method.__name__ not in self.records:
                self.records[method.__name__] = method(self)
            return self.records[method.__name__]

        _NEEDS_OF[once] = needs, uses
        return cast("Method", once)

    return mark


class Views:
    """Base class of views of one agent, which share observations.

    Attributes:
        records: what its views have returned, by their names.
    """

    def __init__(self, agent: "AgentProtocol") -> None:
        self._agent, self._model, self._task = agent, agent.model, agent.task
        self.records: dict[str, Any] = {}

    def prepare(self) -> None:
        """Compute what most views share, before each is computed in a process of its own."""

    def uses(self, name: str) -> tuple[str, ...]:
        """Return the slow views that a view calls."""
        return VIEWS[type(self).__name__, name].uses

    @functools.cached_property
    def _states(self) -> Mapping[int, Mapping[str, Tensor]]:
        """Weight snapshots by step; a corrupt file is left out, with a warning."""
        return self._agent.snapshots.states(logging.getLogger(__name__).warning)

    def _observe(self, batch: Any) -> Observation:
        observation: Observation = self._agent.observe(batch)
        return observation

    def __init_subclass__(cls) -> None:
        """Register the views of a subclass."""
        for name, method in vars(cls).items():
            if callable(method) and method in _NEEDS_OF:
                VIEWS[cls.__name__, name] = View(name, cls, *_NEEDS_OF[method])


def group_of(function: Callable[[], Any]) -> Views | None:
    """Return the group that a view is a method of; None: of none."""
    group = getattr(function, "__self__", None)
    return group if isinstance(group, Views) else None
