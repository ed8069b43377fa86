"""The hot loops: plain functions of arrays and numbers, compiled with numba. No I/O, no recipe, no randomness.

Floating point stays IEEE-754 throughout (no fast-math, no fused operations, no library transcendentals), so that the
bytes do not depend on the processor that a kernel was compiled for.
"""
