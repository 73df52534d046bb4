"""Tests of visualization.core."""
