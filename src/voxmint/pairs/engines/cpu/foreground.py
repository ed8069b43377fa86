"""The foreground mask of an ensemble: a ball deformed by smooth displacement, and the envelope on its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.kernels.bits import Bits, majority3, raise_where, unpack, write_where
from voxmint.pairs.engines.cpu.kernels.foreground import displaced_ball, envelope
from voxmint.pairs.engines.cpu.kernels.upsample import NoiseField
from voxmint.sample import JSON


def foreground_bits(parameters: JSON, side: int) -> Bits:
    """Return the deformed ball after its 3x3x3 median, as bits along the last axis.

    Parameters
    ----------
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    side : int
        S, voxels.
    """
    scales = [(int(scale["key"], 16), scale["spacing"], scale["std"]) for scale in parameters["displacement"]]
    field = NoiseField((side, side, side), scales, components=3)
    centre = np.array(parameters["centre"], np.int32)
    bits = np.empty((side, side, -(-side // 64)), np.uint64)
    displaced_ball(field.rows, *field.taps, field.plane(), centre, parameters["radius"], side, bits)
    smooth: Bits = majority3(bits, side)
    return smooth


def foreground_mask(parameters: JSON, side: int) -> NDArray[np.uint8]:
    """Return the same, uint8 (S, S, S) of 0 and 1."""
    return unpack(foreground_bits(parameters, side), side)


def apply_foreground(labels: NDArray[np.uint8], parameters: JSON) -> NDArray[np.uint8]:
    """Return ``labels`` raised by 1 inside the mask and 0 outside it, with the envelope, if drawn, as label max + 1.

    Parameters
    ----------
    labels : uint8 (S, S, S)
        Ensemble after its median.
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    """
    side = labels.shape[0]
    bits = foreground_bits(parameters, side)
    result = np.empty_like(labels)
    highest = raise_where(bits, labels, result)
    if parameters["envelope"] is not None:
        write_where(envelope(bits, side, parameters["envelope"]), np.uint8(highest + 1), result)
    return result
