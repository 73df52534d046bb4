"""Tasks of handwriting: lines that are read, pages on which boxes are found."""
