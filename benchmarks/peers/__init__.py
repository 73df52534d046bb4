"""The programs that are compared: each trains the same adder and prints one line of JSON."""
