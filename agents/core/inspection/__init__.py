"""Inspection: what an agent shows of itself, and the views."""
