"""Call every kernel of procedural shapes once, so that all are compiled before the first shape is made."""

from __future__ import annotations

import numpy as np

from voxmint.compiling import CompiledOnce
from voxmint.templates.procedural.kernels import fields, parts, surface


def _call_all() -> None:
    field, row, rows, mask = np.zeros((2, 2, 2)), np.zeros(16), np.zeros((0, 16)), np.zeros((1, 1, 1), np.uint8)
    fields.unite_capsules(field, 1.0, rows, 0.0)
    fields.combine_ellipsoids(field, 1.0, rows, 0.0, 0.0)
    fields.unite_sheet(field, 1.0, row, row, rows, 0.0, 0.0)
    field = surface.warp(field, 1.0, np.zeros((3, 2, 2, 2)), 1.0, 0.0)
    surface.render(field, 1.0, mask, field, 1.0, 0.0, 0.0, np.zeros(4))
    parts.keep_parts(mask, 0)
    parts.fill_holes(mask)


ensure_compiled = CompiledOnce(surface.render, _call_all)
"""Compile the kernels, or load them from the cache on disk; does nothing the second time."""
