"""Figures of channels: dissection, progression, pages of units."""
