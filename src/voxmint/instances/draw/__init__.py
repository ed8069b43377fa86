"""Which rows are drawn, checked and split."""
