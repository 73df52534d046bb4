"""Tests of visualization.feature_maps."""
