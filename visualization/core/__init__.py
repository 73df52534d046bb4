"""Shared by all subjects: tracing, targets, inputs, statistics, style, the registry of figures."""
