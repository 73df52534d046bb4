"""Any module: its cost, activations, weights and loss landscape."""
