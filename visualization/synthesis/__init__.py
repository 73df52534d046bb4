"""Synthesised inputs: activation maximisation, dreams, inversion."""
