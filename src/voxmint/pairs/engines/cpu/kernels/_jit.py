"""The one way a kernel is compiled."""

from typing import Any

import numpy as np
from numba import config, njit

from voxmint.compiling import cached_njit

kernel: Any = cached_njit(nogil=True, error_model="numpy")
inline: Any = njit(nogil=True, error_model="numpy", inline="always")  # compiled within kernels, so kept with them
if config.DISABLE_JIT:
    # compiled integers wrap round in silence; so do these
    kernel = inline = np.errstate(over="ignore")
