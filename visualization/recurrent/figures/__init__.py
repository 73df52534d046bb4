"""Figures of recurrent layers."""
