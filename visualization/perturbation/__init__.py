"""Perturbation: changed images and feature maps, and what a unit or an answer makes of them."""
