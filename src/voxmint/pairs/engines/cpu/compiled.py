"""Call every kernel of pairs once, so that all are compiled before the first sample is made."""

from __future__ import annotations

import numpy as np

from voxmint.compiling import CompiledOnce
from voxmint.pairs.engines.cpu.kernels import (
    artifacts,
    bits,
    foreground,
    intensity,
    median,
    noise,
    smooth,
    upsample,
    warp,
)


def _call_all() -> None:
    """Call each kernel with the types it meets in a run, on the smallest arrays."""
    for step in (_geometry, _appearance, _artifacts):
        step()


def _geometry() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    words = np.ones(1, np.uint64)
    words.setflags(write=False)
    size, zero = np.full(3, 2, np.int64), np.zeros(3, np.int64)
    occupied, unset = np.zeros((1, 1, 1), np.uint8), np.full((1, 1, 1), 8, np.int32)
    warp.coarse_occupancy(words, size, zero, occupied)
    matrix = np.eye(3, dtype=np.int64) << warp.FRACTION_BITS
    warp.write_template(labels, np.uint8(1), words, size, zero, size, matrix, zero, occupied, unset)
    median.median3(labels)
    field = upsample.NoiseField(labels.shape, [(1, 4.0, 1.0)], components=3)
    mask = np.zeros((2, 2, 1), np.uint64)
    foreground.displaced_ball(field.rows, *field.taps, field.plane(), zero.astype(np.int32), 1, 2, mask)
    mask = bits.majority3(mask, 2)
    bits.raise_where(mask, labels, labels.copy())
    bits.write_where(foreground.envelope(mask, 2, 2), np.uint8(1), labels)


def _appearance() -> None:
    image, labels = np.zeros((2, 2, 2), np.float32), np.zeros((2, 2, 2), np.uint8)
    flat, one, table = image.reshape(-1), np.float32(1), np.zeros(256, np.float32)
    intensity.labels_seen(labels.reshape(-1))
    intensity.mixture(labels.reshape(-1), table, table, *noise.split_key(1), noise.quantile_table(), flat)
    field = upsample.NoiseField(image.shape, [(1, 4.0, 1.0)])
    intensity.multiply_texture(image, one, one, one, field.rows, *field.taps, field.plane())
    intensity.limits(flat)
    intensity.rescale(flat, one, one)
    intensity.quantise(flat, labels.reshape(-1))


def _artifacts() -> None:
    image, taps = np.ones((2, 2, 2), np.float32), np.ones(3, np.float32)
    matrix, spectrum, line = np.zeros((4, 4)), np.ones((2, 2, 2), np.complex64), np.zeros(2)
    low = np.zeros(2, np.int32)
    artifacts.multiply_bias(image, matrix[:, :2].copy(), matrix[:, :2].copy(), matrix, np.zeros((4, 4, 4)))
    artifacts.adjust_gamma(image.reshape(-1), np.float32(0), np.float32(1), np.float32(1))
    artifacts.add_difference(image.reshape(-1), image.reshape(-1), np.float32(1))
    artifacts.mean_log_magnitude(spectrum, 2)
    wave = np.zeros(2, np.float32)
    artifacts.add_wave(image, wave, wave, wave, wave, wave, wave, 0.0, 0.0)
    artifacts.mask_spectrum(spectrum, line, line, line, line, line, line, 1.0)
    artifacts.average_and_interpolate(image, np.zeros(2, np.int32), matrix.astype(np.float32), low, wave)
    smooth.convolve(image, taps, taps, taps)
    pick = np.zeros(1, np.int32)
    smooth.resample(image, pick, pick, pick, low, wave, low, wave, low, wave, np.zeros_like(image))


ensure_compiled = CompiledOnce(noise.fill_normal, _call_all)
"""Compile the kernels, or load them from the cache on disk; does nothing the second time."""
