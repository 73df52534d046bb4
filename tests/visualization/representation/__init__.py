"""Tests of visualization.representation."""
