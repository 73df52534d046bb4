"""Tests of handwriting tasks."""
