"""Which pixels speak for an answer, and whether that is true."""
