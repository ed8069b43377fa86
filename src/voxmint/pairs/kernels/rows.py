"""Rows are copied by a loop: an array assigned to an array has numba compile its error messages too, for seconds."""

from voxmint.pairs.kernels._jit import inline


@inline
def copy_row(source, target):
    """Copy ``source`` (n,) to ``target`` (n,)."""
    for k in range(target.size):
        target[k] = source[k]
