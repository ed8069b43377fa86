"""Shapes that need no data set."""
