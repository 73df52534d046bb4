"""Images that were found: activation maximisation, dreams, inversion."""
