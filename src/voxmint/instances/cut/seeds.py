"""Which slices of an instance are kept as seed: the two published models, drawn from a stream of one's own.

Both count the slices on which the instance *is*, 0 to ``count - 1``, so that a kept slice always has foreground.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, floor, log
from statistics import NormalDist

from voxmint.errors import RejectedSample
from voxmint.instances.recipe import FewRecipe, SeedRecipe, SpreadRecipe
from voxmint.randomness import Stream

_DECIMALS = 6
_WEIGHT_ONE = 1 << 20
_SMALLEST_UNIT = 2.0**-54


def keep_slices(stream: Stream, recipe: SeedRecipe, count: int) -> list[int]:
    """Draw the slices to keep.

    Parameters
    ----------
    stream : Stream
        Of this sample's seeds alone.
    recipe : SeedRecipe
        The model and its constants.
    count : int
        Number of slices on which the instance is, at least 1.

    Returns
    -------
    list of int
        Kept slices, sorted, distinct, at least one, each from 0 to ``count - 1``.

    Raises
    ------
    RejectedSample
        Fewer slices exist than the recipe keeps at the least.
    """
    if count < 1:
        raise ValueError(f"no slices to keep any of: count {count}")
    return keep_few(stream, recipe.few, count) if recipe.model == "few" else keep_spread(stream, recipe.spread, count)


def keep_few(stream: Stream, recipe: FewRecipe, count: int) -> list[int]:
    """Draw k slices: k weighed by a normal density, then slice after slice, without repetition."""
    low, high = recipe.limits
    if low > count:
        raise RejectedSample(f"the instance is on {count} slices, but at least {low} are to be kept")
    sizes = range(low, min(high, count) + 1)
    k = sizes[_weighted(stream, [_density(size, recipe.mean, recipe.std) for size in sizes])]
    middle, std = (count - 1) / 2, recipe.slice_std * count
    left = list(range(count))
    weights = [_density(position, middle, std) for position in left]
    kept = []
    for _ in range(k):
        drawn = _weighted(stream, weights)
        kept.append(left.pop(drawn))
        weights.pop(drawn)
    return sorted(kept)


def keep_spread(stream: Stream, recipe: SpreadRecipe, count: int) -> list[int]:
    """Keep the distinct ones of an exponential number of normal draws.

    As published, ``min(floor(Exp(mean Z)), Z - 1)`` draws of round-down ``N(Z/2, Z/4)``, clipped to the slices. At
    least one draw is made: the published model leaves every sixteenth seed of 16 slices empty.
    """
    draws = max(1, min(floor(exponential(stream) * recipe.mean * count), count - 1))
    mean, std = recipe.centre * count, recipe.std * count
    return sorted({min(max(floor(mean + std * normal(stream)), 0), count - 1) for _ in range(draws)})


def exponential(stream: Stream) -> float:
    """Draw from the exponential distribution of mean 1, rounded to six decimals: last bits differ by machine."""
    return round(-log(1.0 - stream.unit()), _DECIMALS)


def normal(stream: Stream) -> float:
    """Draw from N(0, 1) by its inverse distribution function, rounded to six decimals."""
    return round(NormalDist().inv_cdf(max(stream.unit(), _SMALLEST_UNIT)), _DECIMALS)


def _density(value: float, mean: float, std: float) -> int:
    """Return a normal density, 1 at its mean, as a whole number of 2^-20, at least one."""
    return max(1, round(_WEIGHT_ONE * exp(-((value - mean) ** 2) / (2 * std * std))))


def _weighted(stream: Stream, weights: Sequence[int]) -> int:
    """Draw a position with the given whole-numbered weights, exactly."""
    word = stream.integer(0, sum(weights))
    for position, weight in enumerate(weights):
        word -= weight
        if word < 0:
            return position
    raise AssertionError("unreachable: the word is below the sum of the weights")
