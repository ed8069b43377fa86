"""What makes arrays of drawn parameters."""
