"""Looking into what was learned: functions on bare modules and arrays; records, figures, a page."""

from visualization.core.errors import NothingToShow
from visualization.core.tracing import trace
from visualization.notebook import show

__all__ = [
    "NothingToShow",
    "show",
    "trace",
]
