"""What bytes of chunks become, within bounds."""
