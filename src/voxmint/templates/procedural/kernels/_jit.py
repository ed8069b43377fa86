"""The one way these kernels are compiled, and their type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.compiling import cached_njit

Array = NDArray[np.float64]
kernel = cached_njit(error_model="numpy")
