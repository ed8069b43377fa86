"""The randomized synthesis of pairs."""
