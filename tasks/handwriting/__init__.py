"""Handwriting: lines of text as images, to be transcribed, and pages on which boxes are found."""
