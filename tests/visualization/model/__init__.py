"""Tests of visualization.model."""
