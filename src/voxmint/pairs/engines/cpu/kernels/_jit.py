"""The one way a kernel is compiled."""

from typing import Any

import numpy as np
from numba import config, njit

kernel: Any = njit(cache=True, nogil=True, error_model="numpy")
inline: Any = njit(cache=True, nogil=True, error_model="numpy", inline="always")
if config.DISABLE_JIT:
    # compiled integers wrap round in silence; so do these
    kernel = inline = np.errstate(over="ignore")
