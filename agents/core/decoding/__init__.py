"""Decoding: from the probabilities of each column of an image to a text."""
