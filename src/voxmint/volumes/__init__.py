"""Where arrays live: files and layers."""
