"""The engine for processors: NumPy and compiled kernels."""
