"""Tests of visualization.recurrent."""
