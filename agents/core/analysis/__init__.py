"""Analysis of whole agents: diagnosis, trials, comparison."""
