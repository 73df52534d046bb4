"""Receptive fields and the patches that excite a channel most."""
