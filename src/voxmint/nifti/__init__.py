"""NIfTI files, read with distrust and written whole."""
