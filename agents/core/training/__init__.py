"""Training: the loop, the trainer, the optimiser, devices, monitoring."""
