"""What units see, and the patches that excite them."""
