"""Tests of visualization.attribution."""
