"""EM-like volumes made up, with a table of their instances."""
