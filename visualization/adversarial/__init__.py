"""Adversarial attacks, robustness, transfer."""
