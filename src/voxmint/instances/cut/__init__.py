"""One row cut out of both layers."""
