"""The machinery that every agent shares."""
