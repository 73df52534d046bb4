"""Views: the inspections that an agent has, by what they need of it.

A view is a method of a subclass of `Views` that is marked with `@view(…)`: it is named as the
method, and its needs are words of `NEEDS`. It returns a record, or a mapping of
names, such as layers, to records. An agent has the views whose needs its observation meets; nobody
lists them.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from torch import Tensor

from agents.core.inspection.observation import Observation

if TYPE_CHECKING:
    from agents.core.inspection.inspected import Inspected

NUM_REPRESENTED = 1000  # samples of views of representations

NEEDS: dict[str, Callable[[Observation], bool]] = {
    "recurrent": lambda seen: bool(seen.recurrent),
    "answers": lambda seen: seen.generate is not None,
    "step answers": lambda seen: any(part.inputs is not None for part in seen.recurrent),
    "images": lambda seen: seen.image is not None,
    "scans": lambda seen: seen.image is not None and seen.image.is_handwriting,
    "classes": lambda seen: seen.image is not None and seen.classes is not None,
    "targets": lambda seen: seen.image is not None and bool(seen.targets),
    "no images": lambda seen: seen.image is None,
    "attention": lambda seen: bool(seen.attention),
    "boxes": lambda seen: seen.image is not None and seen.boxes is not None,
}
Method = TypeVar("Method", bound=Callable[..., Any])
_NEEDS_OF: dict[Any, tuple[str, ...]] = {}


@attrs.frozen
class View:
    """A named inspection: a method of a class of views, and what it needs."""

    name: str
    group: "type[Views]"
    needs: tuple[str, ...]


VIEWS: dict[tuple[str, str], View] = {}  # by group and name


def view(*needs: str) -> Callable[[Method], Method]:
    """Mark a method as a view that needs all of these words.

    Of `NEEDS`, or `snapshots` (of the weights), or `few answers` (as of a classifier).
    """

    def mark(method: Method) -> Method:
        _NEEDS_OF[method] = needs
        return method

    return mark


class Views:
    """Inspections of one agent that share what they look at."""

    def __init__(self, agent: "Inspected") -> None:
        self._agent, self._model, self._task = agent, agent.model, agent.task

    @functools.cached_property
    def _states(self) -> Mapping[int, Mapping[str, Tensor]]:
        """Copies of the weights through training, by step; a damaged file is warned of."""
        return self._agent.snapshots.states(logging.getLogger(__name__).warning)

    def _observe(self, batch: Any) -> Observation:
        observation: Observation = self._agent.observe(batch)
        return observation

    def __init_subclass__(cls) -> None:
        """Register the views of a subclass."""
        for name, method in vars(cls).items():
            if callable(method) and method in _NEEDS_OF:
                VIEWS[cls.__name__, name] = View(name, cls, _NEEDS_OF[method])
