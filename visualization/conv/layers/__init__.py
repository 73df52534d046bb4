"""Values and weights of every layer, and the loss around them."""
