"""Sessions of the live page: one for each open page, whose messages they answer."""

import abc
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import attrs

from visualization.core.errors import unknown_name_error
from visualization.live.messages import Arguments, Reply

_LOG = logging.getLogger(__name__)
Call = Callable[[Arguments], Reply]


class LivePanel(abc.ABC):
    """Panel of the live page: a part of it, with a state of its own for each open page.

    Attributes:
        name: of the script that draws it.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return what the page needs to draw itself, as JSON values."""

    @property
    @abc.abstractmethod
    def calls(self) -> Mapping[str, Call]:
        """What the page can call, by name."""


@attrs.frozen(eq=False, kw_only=True)
class Live:
    """What a live page shows: a title, and for each page that is opened its own panels.

    Attributes:
        title: of the page.
        panels: functions that make a panel.
    """

    title: str
    panels: Sequence[Callable[[], LivePanel]]


@final
class Session:
    """Session of one open page: answers its messages.

    Bad input is answered by an error that says what is accepted; a bug is logged, and answered too:
    no message ends a session.
    """

    def __init__(self, live: Live) -> None:
        self._title = live.title
        self._panels = {panel.name: panel for panel in (make() for make in live.panels)}

    def panel(self, name: str) -> LivePanel:
        """Return a panel by name."""
        return self._panels[name]

    def handle(self, header: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> Reply:
        """Return the reply to a message; it has the message's `id`.

        A message without a panel asks what the panels are.
        """
        number = {"id": header.get("id") if type(header.get("id")) is int else None}
        try:
            reply = self._answer(Arguments(header, buffers))
            return Reply({**reply.data, **number}, reply.buffers)
        except ValueError as error:  # also ConfigError, and NothingToShow
            return Reply({"error": str(error), **number})
        except Exception as error:
            _LOG.exception("the live page asked for something that failed")
            problem = f"{type(error).__name__}: {error} (a bug; the terminal shows where)"
            return Reply({"error": problem, **number})

    def _answer(self, arguments: Arguments) -> Reply:
        if not arguments.given("panel"):
            panels = [_described(panel) for panel in self._panels.values()]
            return Reply({"title": self._title, "panels": panels})
        panel = self._panels[arguments.choice("panel", list(self._panels))]
        call = arguments.text("call")
        if call not in panel.calls:
            raise unknown_name_error("call", call, panel.calls)
        return panel.calls[call](arguments)


def _described(panel: LivePanel) -> dict[str, Any]:
    """Return what a panel says of itself; one that cannot be shown says why."""
    try:
        return {"name": panel.name, **panel.describe()}
    except ValueError as error:  # such as of weights that have diverged
        return {"name": panel.name, "problem": str(error)}
