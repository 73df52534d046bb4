"""Tests of visualization.calibration."""
