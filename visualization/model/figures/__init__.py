"""Figures of activations, weights and loss landscapes."""
