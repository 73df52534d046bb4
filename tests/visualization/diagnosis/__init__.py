"""Tests of visualization.diagnosis."""
