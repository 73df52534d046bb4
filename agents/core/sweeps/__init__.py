"""Sweeps: search spaces, optuna's studies, results of runs."""
