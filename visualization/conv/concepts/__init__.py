"""What representations hold: neighbours, probes, labelled concepts."""
