"""What a layer represents: probes, embeddings, neighbours, units that match."""
