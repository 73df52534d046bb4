"""Figures of channels: dissection, progression, pages of units."""

from visualization.feature_maps import unit_pages
from visualization.feature_maps.figures import dissection, progression, units

__all__ = ["dissection", "progression", "unit_pages", "units"]
