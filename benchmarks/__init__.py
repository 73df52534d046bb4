"""Measurements against peers, of overhead, of the start and of the default recipe."""
