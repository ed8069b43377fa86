"""Shapes: the bank that holds them, and the sources it is made from."""
