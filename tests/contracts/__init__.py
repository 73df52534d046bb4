"""Contract tests over the registries."""
