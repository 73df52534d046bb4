"""Ranks: several processes that train one agent."""
