"""The command line: modes, run specifications, sweeps."""
