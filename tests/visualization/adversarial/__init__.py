"""Tests of visualization.adversarial."""
