"""Places and credentials."""
