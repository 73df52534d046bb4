"""Feature maps: receptive fields, top patches, dissection, progression, pages of units."""
