"""Adversarial attacks and robustness."""
