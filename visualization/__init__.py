"""Looking into what was learned: functions on bare modules and arrays; records, figures, a page."""

from visualization.errors import NothingToShow
from visualization.showing import show
from visualization.tracing import trace

__all__ = ["NothingToShow", "show", "trace"]
