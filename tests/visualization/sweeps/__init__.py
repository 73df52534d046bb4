"""Tests of visualization.sweeps."""
