"""Tests of what agents are built from."""
