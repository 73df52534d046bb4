"""Looking into what was learned: functions on bare modules and arrays; records, figures, a page."""

import visualization.core.earlier_names  # noqa: F401 - earlier names work from here on
from visualization.core.errors import NothingToShow
from visualization.core.tracing import trace
from visualization.notebook import show

__all__ = [
    "NothingToShow",
    "show",
    "trace",
]
