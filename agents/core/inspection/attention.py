"""Views of attention."""

from typing import Any

from agents.core.inspection.views import Views, view

NUM_SHOWN = 6  # samples of maps over images


class AttentionViews(Views):
    """Views of attention maps."""

    @view("attention")
    def attention(self) -> Any:
        """Attention maps: a record for each layer, or a single one."""
        observation = self._observe(self._task.for_display().samples("test", NUM_SHOWN))
        maps = {part.name: part.maps() for part in observation.attention}
        return maps if len(maps) > 1 else next(iter(maps.values()))
