"""Acquisition artifacts as passes over a float32 volume."""

import numpy as np

from voxmint.pairs.engines.cpu.kernels._jit import kernel
from voxmint.pairs.engines.cpu.kernels.elementary import exp32, log32

_ZERO, _ONE = np.float32(0), np.float32(1)
_TINY = np.float32(1.2e-38)


@kernel
def multiply_bias(image, basis_i, basis_j, powers, coefficients):
    """Multiply ``image`` (I, J, K) by exp of a Legendre series, in place.

    Parameters
    ----------
    basis_i, basis_j : float64 (degree + 1, I) and (degree + 1, J)
        Legendre polynomials along the first two axes.
    powers : float64 (degree + 1, degree + 1)
        Monomial coefficients of each polynomial, row by row.
    coefficients : float64 (degree + 1, degree + 1, degree + 1)
        Of the products of polynomials along i, j, k.
    """
    ni, nj, nk = image.shape
    terms = coefficients.shape[0]
    along = np.empty(terms, np.float64)
    monomial = np.empty(terms, np.float32)
    position, field = np.empty(nk, np.float32), np.empty(nk, np.float32)
    for k in range(nk):
        position[k] = np.float32(2.0 * k / (nk - 1) - 1.0) if nk > 1 else np.float32(-1)
    for i in range(ni):
        for j in range(nj):
            for c in range(terms):
                along[c] = 0.0
                for a in range(terms - c):
                    for b in range(terms - c - a):
                        along[c] += coefficients[a, b, c] * basis_i[a, i] * basis_j[b, j]
            for p in range(terms):
                total = 0.0
                for c in range(terms):
                    total += along[c] * powers[c, p]
                monomial[p] = np.float32(total)
            _multiply_exp(image[i, j], position, monomial, field)


@kernel
def _multiply_exp(line, position, monomial, field):
    """Multiply ``line`` by exp of a polynomial; pass by pass, which the compiler can vectorise."""
    field[:] = monomial[monomial.size - 1]
    for p in range(monomial.size - 2, -1, -1):
        term = monomial[p]
        for k in range(line.size):
            field[k] = field[k] * position[k] + term
    for k in range(line.size):
        line[k] *= exp32(field[k])


@kernel
def adjust_gamma(image, low, high, exponent):
    """Apply ``((x - low) / (range + 1e-7)) ** exponent * range + low`` to a flat image, in place."""
    extent = high - low
    scale = _ONE / (extent + np.float32(1e-7))
    for n in range(image.size):
        value = (image[n] - low) * scale
        power = exp32(exponent * log32(value if value > _TINY else _TINY))
        image[n] = (power if value > _TINY else _ZERO) * extent + low


@kernel
def add_difference(image, other, factor):
    """Add ``factor * (image - other)`` to a flat image, in place."""
    for n in range(image.size):
        image[n] += factor * (image[n] - other[n])


@kernel
def mean_log_magnitude(spectrum, last_size):
    """Return the mean of ln(|k| + 1e-10) over all of k-space from its half (I, J, K // 2 + 1), complex64."""
    ni, nj, nk = spectrum.shape
    logs = np.empty(nk, np.float32)
    total = np.float64(0)
    for i in range(ni):
        for j in range(nj):
            _log_magnitudes(spectrum[i, j], logs)
            row = np.float64(0)
            for k in range(nk):
                row += logs[k]
            # columns in between stand for their mirror images too
            total += 2 * row - logs[0] - (logs[nk - 1] if last_size % 2 == 0 else _ZERO)
    return total / (ni * nj * last_size)


@kernel
def _log_magnitudes(line, logs):
    for k in range(line.size):
        real, imaginary = line[k].real, line[k].imag
        logs[k] = log32(np.sqrt(real * real + imaginary * imaginary) + np.float32(1e-10))


@kernel
def add_wave(image, cos_i, sin_i, cos_j, sin_j, cos_k, sin_k, real, imaginary):
    """Add Re((real + 1j * imaginary) * e_i * e_j * e_k) in place, each e a complex wave given by cosine and sine."""
    ni, nj, nk = image.shape
    for i in range(ni):
        for j in range(nj):
            c, s = cos_i[i] * cos_j[j] - sin_i[i] * sin_j[j], sin_i[i] * cos_j[j] + cos_i[i] * sin_j[j]
            u = np.float32(real * c - imaginary * s)
            v = np.float32(real * s + imaginary * c)
            for k in range(nk):
                image[i, j, k] += u * cos_k[k] - v * sin_k[k]


@kernel
def mask_spectrum(spectrum, square_i, square_j, square_k, mirror_i, mirror_j, mirror_k, radius_squared):
    """Zero the half spectrum beyond a radius, in place; the mask is averaged with its mirror image in frequency.

    The published mask is centred half a voxel off zero frequency, so it is not symmetric. The real part of the inverse
    transform is what symmetrised weights 0, 1/2 and 1 give.

    Parameters
    ----------
    square_i, square_j, square_k : float64
        Squared distance from the mask's centre of each frequency, per axis (the last one half, ascending).
    mirror_i, mirror_j, mirror_k : float64
        The same of the opposite frequency.
    """
    ni, nj, nk = spectrum.shape
    for i in range(ni):
        for j in range(nj):
            near, mirrored = square_i[i] + square_j[j], mirror_i[i] + mirror_j[j]
            # both distances grow along k, so that what stays as it is comes first
            for k in range(nk - 1, -1, -1):
                inside = near + square_k[k] <= radius_squared
                if inside == (mirrored + mirror_k[k] <= radius_squared):
                    if inside:
                        break
                    spectrum[i, j, k] = 0
                else:
                    spectrum[i, j, k] *= np.float32(0.5)


@kernel
def average_and_interpolate(image, first, shares, low, weight):
    """Replace ``image`` along its middle axis by averages over slices, interpolated between their middles, in place.

    Parameters
    ----------
    image : float32 (n, size, m)
        Along its middle axis there are the slices.
    first : int32 (slices,)
        First voxel that a slice meets.
    shares : float32 (slices, most)
        Share of that voxel and the ones after it in the slice's average; 0 beyond its end.
    low, weight : int32 and float32 (size,)
        Lower slice and the upper one's weight, for each voxel.
    """
    size, slices, last = image.shape[1], first.size, first.size - 1
    means = np.empty((slices, image.shape[2]), np.float32)
    for n in range(image.shape[0]):
        means[:] = 0
        for s in range(slices):
            for at in range(min(shares.shape[1], size - first[s])):
                line, share = image[n, first[s] + at], shares[s, at]
                for m in range(line.size):
                    means[s, m] += share * line[m]
        for v in range(size):
            near, far, w = means[low[v]], means[min(low[v] + 1, last)], weight[v]
            line = image[n, v]
            for m in range(line.size):
                line[m] = near[m] + (far[m] - near[m]) * w
