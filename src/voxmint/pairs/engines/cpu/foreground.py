"""The foreground mask of an ensemble: a ball deformed by smooth displacement, and the envelope on its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.draws import Shape
from voxmint.pairs.engines.cpu.kernels.bits import Bits, majority3, raise_where, unpack, write_where
from voxmint.pairs.engines.cpu.kernels.foreground import displaced_ball, envelope
from voxmint.pairs.engines.cpu.kernels.upsample import NoiseField
from voxmint.sample import JSON


def foreground_bits(parameters: JSON, shape: Shape) -> Bits:
    """Return the deformed ball after its 3x3x3 median, as bits along the last axis.

    Parameters
    ----------
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    shape : three ints
        I, J, K, voxels.

    Returns
    -------
    uint64 (I, J, ceil(K / 64))
    """
    scales = [(int(scale["key"], 16), scale["spacing"], scale["std"]) for scale in parameters["displacement"]]
    field = NoiseField(tuple(shape), scales, components=3)
    centre = np.array(parameters["centre"], np.int32)
    bits = np.empty((*shape[:2], -(-shape[2] // 64)), np.uint64)
    displaced_ball(field.rows, *field.taps, field.plane(), centre, parameters["radius"], shape[2], bits)
    smooth: Bits = majority3(bits, shape[2])
    return smooth


def foreground_mask(parameters: JSON, shape: Shape) -> NDArray[np.uint8]:
    """Return the same, uint8 (I, J, K) of 0 and 1."""
    return unpack(foreground_bits(parameters, shape), shape[2])


def apply_foreground(labels: NDArray[np.uint8], parameters: JSON) -> NDArray[np.uint8]:
    """Return ``labels`` raised by 1 inside the mask and 0 outside it, with the envelope, if drawn, as label max + 1.

    Parameters
    ----------
    labels : uint8 (I, J, K)
        Ensemble after its median.
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_foreground`.
    """
    bits = foreground_bits(parameters, labels.shape)
    result = np.empty_like(labels)
    highest = raise_where(bits, labels, result)
    if parameters["envelope"] is not None:
        write_where(envelope(bits, labels.shape[2], parameters["envelope"]), np.uint8(highest + 1), result)
    return result
