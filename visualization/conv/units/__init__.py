"""Channels through training, and a page for each."""
