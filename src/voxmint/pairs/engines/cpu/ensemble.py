"""Label ensembles: templates moved by random affine maps and thrown over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.draws import Shape
from voxmint.pairs.engines.cpu.foreground import apply_foreground
from voxmint.pairs.engines.cpu.kernels import warp
from voxmint.pairs.engines.cpu.kernels.median import median3
from voxmint.pairs.recipe import CUBIC
from voxmint.sample import JSON

if TYPE_CHECKING:
    from voxmint.templates.bank import TemplateBank

_Rows = tuple[tuple[float, ...], ...]


def affine_matrix(parameters: JSON) -> NDArray[np.float64]:
    """Return the 3x3 matrix Scale @ Rx @ Ry @ Rz @ Shear of one drawn template, from output to input voxels."""
    signed = [-s if m else s for s, m in zip(parameters["scale"], parameters["mirror"], strict=True)]
    (ca, sa), (cb, sb), (cc, sc) = (
        (math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in parameters["rotation"]
    )
    ij, ik, jk = parameters["shear"]
    rotate_i = ((1, 0, 0), (0, ca, -sa), (0, sa, ca))
    rotate_j = ((cb, 0, sb), (0, 1, 0), (-sb, 0, cb))
    rotate_k = ((cc, -sc, 0), (sc, cc, 0), (0, 0, 1))
    matrix: _Rows = ((signed[0], 0, 0), (0, signed[1], 0), (0, 0, signed[2]))
    for factor in (rotate_i, rotate_j, rotate_k, ((1, ij, ik), (0, 1, jk), (0, 0, 1))):
        matrix = _product(matrix, factor)
    return np.array(matrix, np.float64)


def padding(shape: Shape, least: Shape) -> tuple[list[int], list[int]]:
    """Return the zeros before, per axis, and the padded size: up to ``least`` where smaller, before = ceil of half."""
    before = [math.ceil((side - size) / 2) if size < side else 0 for size, side in zip(shape, least, strict=True)]
    return before, [max(size, side) for size, side in zip(shape, least, strict=True)]


def compose_templates(bank: TemplateBank, parameters: JSON, shape: Shape) -> NDArray[np.uint8]:
    """Return the moved templates written over each other, uint8 (I, J, K), before the median.

    Later templates cover earlier ones: they are written from the last to the first, each only where nothing lies yet.

    Parameters
    ----------
    bank : TemplateBank
        The templates.
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_ensemble`.
    shape : three ints
        I, J, K, voxels.
    """
    labels = np.full(shape, warp.UNSET, np.uint8)
    in_i, in_j, in_k = (_block_sizes(size) for size in shape)
    unset = in_i[:, None, None] * in_j[:, None] * in_k
    spacing = parameters.get("spacing", CUBIC)
    for drawn in reversed(parameters["templates"]):
        if drawn["label"] > 0:  # label 0 is what unset voxels become anyway
            _write(labels, bank, drawn, spacing, unset)
    labels *= labels != warp.UNSET
    return labels


def make_ensemble(bank: TemplateBank, parameters: JSON, shape: Shape) -> NDArray[np.uint8]:
    """Return the finished label ensemble, uint8 (I, J, K): composed, median filtered, with its foreground."""
    labels = median3(compose_templates(bank, parameters, shape))
    return labels if parameters["foreground"] is None else apply_foreground(labels, parameters["foreground"])


def _block_sizes(size: int) -> NDArray[np.int32]:
    """Return the voxels along each of the blocks that cover ``size`` voxels."""
    return np.minimum(warp.BLOCK, size - warp.BLOCK * np.arange(-(-size // warp.BLOCK))).astype(np.int32)


def _write(
    labels: NDArray[np.uint8], bank: TemplateBank, drawn: JSON, spacing: Sequence[float], unset: NDArray[np.int32]
) -> None:
    shape, words = bank.shape(drawn["template"]), bank.words(drawn["template"])
    before, padded = padding(shape, [round(n * step) for n, step in zip(labels.shape, spacing, strict=True)])
    # voxels further apart than a template's own: a step along such an axis is several of its voxels
    matrix, offset = _fixed(affine_matrix(drawn) * spacing), _fixed(np.array(drawn["translation"]))
    geometry = tuple(np.array(values, np.int64) for values in (shape, before, padded))
    occupied = np.empty([-(-size // 8) for size in padded], np.uint8)
    warp.coarse_occupancy(words, *geometry[:2], occupied)
    warp.write_template(labels, np.uint8(drawn["label"]), words, *geometry, matrix, offset, occupied, unset)


def _fixed(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to fixed point with 32 fractional bits, which also hides the last bit of a maths library's sine."""
    return np.rint(values * 2.0**warp.FRACTION_BITS).astype(np.int64)


def _product(left: _Rows, right: _Rows) -> _Rows:
    """Multiply 3x3 matrices in plain floats: the same order of operations everywhere."""
    return tuple(
        tuple(left[r][0] * right[0][c] + left[r][1] * right[1][c] + left[r][2] * right[2][c] for c in range(3))
        for r in range(3)
    )
