"""Looking into any module: its cost, activations, weights and loss landscape."""
