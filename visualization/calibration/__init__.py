"""Calibration: whether what is said with confidence p is right in a share p of the cases."""
