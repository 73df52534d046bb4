"""Tests of visualization.circuits."""
