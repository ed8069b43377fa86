"""Sizes of the tests: tiny where kernels run as plain Python (``NUMBA_DISABLE_JIT=1``), hundreds of times slower."""

from __future__ import annotations

from typing import TypeVar

import pytest
from numba import config

COMPILED = not config.DISABLE_JIT
needs_compiler = pytest.mark.skipif(not COMPILED, reason="plain Python takes too long for what it looks at")

T = TypeVar("T")


def sized(compiled: T, plain: T) -> T:
    """Return the size for compiled kernels or the one for plain Python."""
    return compiled if COMPILED else plain
