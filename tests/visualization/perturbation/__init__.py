"""Tests of visualization.perturbation."""
