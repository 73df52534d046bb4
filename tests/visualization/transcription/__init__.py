"""Tests of visualization.transcription."""
