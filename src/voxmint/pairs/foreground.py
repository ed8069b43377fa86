"""The foreground mask of an ensemble: a ball deformed by smooth displacement, and the envelope on its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.kernels.foreground import displaced_ball, envelope
from voxmint.pairs.kernels.median import median3
from voxmint.pairs.kernels.upsample import NoiseGrid
from voxmint.sample import JSON


def foreground_mask(parameters: JSON, side: int) -> NDArray[np.uint8]:
    """Return the deformed ball, uint8 (S, S, S) of 0 and 1, after its 3x3x3 median.

    Parameters
    ----------
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    side : int
        S, voxels.
    """
    shape = (side, side, side)
    grids = [
        NoiseGrid(int(scale["key"], 16), shape, scale["spacing"], scale["std"], components=3)
        for scale in parameters["displacement"]
    ]
    mask = np.empty(shape, np.uint8)
    centre = np.array(parameters["centre"], np.int32)
    displaced_ball(
        tuple(grid.rows for grid in grids),
        tuple(grid.taps for grid in grids),
        tuple(grid.plane() for grid in grids),
        centre,
        parameters["radius"],
        mask,
    )
    return median3(mask)


def apply_foreground(labels: NDArray[np.uint8], parameters: JSON) -> NDArray[np.uint8]:
    """Return ``labels`` raised by 1 inside the mask and 0 outside it, with the envelope, if drawn, as label max + 1.

    Parameters
    ----------
    labels : uint8 (S, S, S)
        Ensemble after its median.
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    """
    mask = foreground_mask(parameters, labels.shape[0])
    result = (labels + np.uint8(1)) * mask
    if parameters["envelope"] is not None:
        surface = envelope(mask, parameters["envelope"])
        result[surface.view(np.bool_)] = int(result.max()) + 1
    return result
