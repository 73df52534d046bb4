"""Changed images and maps: which pattern a unit answers to."""
