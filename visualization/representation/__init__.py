"""Representations: probes, embeddings, neighbours, matching of units."""
