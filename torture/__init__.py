"""Faults on purpose: `python -m torture` does them and writes the table of docs/reliability.md."""
