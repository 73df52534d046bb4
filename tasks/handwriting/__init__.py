"""Handwriting: lines of text as images, to be transcribed."""
