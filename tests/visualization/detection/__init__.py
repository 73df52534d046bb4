"""Tests of visualization.detection."""
