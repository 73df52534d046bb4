"""Figures of perturbed images and feature maps."""
