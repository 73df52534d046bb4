"""Perturbation: images and feature maps that are changed, and what becomes of the activations."""
