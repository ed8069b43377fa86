"""Render a label volume into one synthetic image: intensities per label, smooth texture, acquisition artifacts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint.pairs.engines.cpu.artifacts import apply_artifacts
from voxmint.pairs.engines.cpu.kernels import intensity
from voxmint.pairs.engines.cpu.kernels.noise import quantile_table, split_key
from voxmint.pairs.engines.cpu.kernels.upsample import NoiseField
from voxmint.sample import JSON


def labels_present(labels: NDArray[np.uint8]) -> list[int]:
    """Return the labels that occur, ascending."""
    return [int(label) for label in np.flatnonzero(intensity.labels_seen(labels.reshape(-1)))]


def render(labels: NDArray[np.uint8], parameters: JSON, strength: float) -> NDArray[np.uint8]:
    """Return one view of a label volume.

    Parameters
    ----------
    labels : uint8 (I, J, K)
        Any shape.
    parameters : dict
        As drawn by `voxmint.pairs.draws.draw_view`.
    strength : float
        Factor of the multiplicative texture.

    Returns
    -------
    uint8 (I, J, K)
        From 0 to 255; a volume that comes out constant is 0.
    """
    image = np.empty(labels.shape, np.float32)
    flat = image.reshape(-1)
    mean, std = _label_tables(parameters["intensity"])
    key = split_key(int(parameters["intensity"]["key"], 16))
    low, high = intensity.mixture(np.ascontiguousarray(labels).reshape(-1), mean, std, *key, quantile_table(), flat)
    scales = [(int(s["key"], 16), s["spacing"], s["std"]) for s in parameters["texture"]]
    if scales:
        field = NoiseField(labels.shape, scales)
        low, high = intensity.multiply_texture(
            image, np.float32(low), np.float32(high), np.float32(strength), field.rows, *field.taps, field.plane()
        )
    intensity.rescale(flat, np.float32(low), np.float32(high))
    image = apply_artifacts(image, parameters["artifacts"])
    grey = np.empty(labels.shape, np.uint8)
    intensity.quantise(image.reshape(-1), grey.reshape(-1))
    return grey


def _label_tables(parameters: JSON) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, std = np.zeros(256, np.float32), np.zeros(256, np.float32)
    labels = parameters["labels"]
    mean[labels], std[labels] = parameters["mean"], parameters["std"]
    if parameters["empty_background"]:
        mean[labels[0]] = std[labels[0]] = 0
    return mean, std
