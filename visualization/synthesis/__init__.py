"""Synthesised inputs: activation maximisation, DeepDream, inversion."""
