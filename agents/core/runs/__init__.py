"""Runs on disk: checkpoints, run folders, snapshots, history, sinks."""
