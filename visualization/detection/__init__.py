"""Detection: which boxes a model finds on images, and which are there."""
