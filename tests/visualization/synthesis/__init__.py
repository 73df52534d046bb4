"""Tests of visualization.synthesis."""
