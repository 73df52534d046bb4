"""Tests of visualization.attention."""
