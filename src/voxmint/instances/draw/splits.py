"""Divide instances into training, validation and test, so that no voxel and no neuron is in two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from voxmint.errors import InputError
from voxmint.instances.draw.overlap import overlap_report
from voxmint.instances.draw.reservoir import mix_cells
from voxmint.instances.table.rows import rows_of
from voxmint.instances.table.table import Instance, Rows
from voxmint.instances.table.values import Floats, Integers
from voxmint.randomness import Stream
from voxmint.recipe import Recipe
from voxmint.sample import JSON

MOST_BLOCKS = 2_000_000
"""Blocks that a grid may have."""


class SplitRecipe(Recipe):
    """Which splits there are and what they may not share."""

    shares: dict[str, PositiveFloat] = Field(default_factory=lambda: {"train": 0.8, "validation": 0.2})
    """Name of each split and its share of the instances; shares are relative."""
    block_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Block (x, y, z) in nm that belongs to one split as a whole. None cuts the volume once for each further split,
    across the axis that is longest beside a crop: the fewest crops are lost."""
    separate: Literal["blocks", "blocks and neurons"] = "blocks and neurons"
    """What splits may not share: blocks, or also neurons, where the table has their ids."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.shares) < 2:
            raise ValueError(f"shares must name at least two splits, got {self.shares}")
        return self


@dataclass(frozen=True)
class Splits:
    """The split of each instance, or why it has none.

    Attributes
    ----------
    names : tuple of str or None
        Split of each instance; None when it was left out.
    report : dict
        JSON-able: counts, what was left out and why, and `overlap_report`.
    """

    names: tuple[str | None, ...]
    report: JSON


def assign_splits(instances: Rows | Sequence[Instance], crops_nm: Floats, recipe: SplitRecipe, seed: int) -> Splits:
    """Assign each instance to a split, or to none where its crop or its neurons reach into two.

    Space is cut into blocks, each wholly of one split. A crop that touches blocks of two splits is left out. Then each
    neuron goes to the split that holds most of its remaining instances (relative to the shares), and instances whose
    neurons went elsewhere are left out.

    Parameters
    ----------
    instances : Rows or sequence of Instance
        As drawn; their order does not matter.
    crops_nm : (n, 2, 3) ndarray
        Start and (excluded) stop (x, y, z) in nm of what is cut out around each, all layers together.
    recipe : SplitRecipe
        Splits and blocks.
    seed : int
        Seed of the data set.

    Raises
    ------
    InputError
        A split would be empty.
    """
    crops = np.asarray(crops_nm, np.float64)
    rows = rows_of(instances)
    centres = rows.column("centre_nm")
    if crops.shape != (len(centres), 2, 3):
        raise InputError("one crop for each instance", expected=(len(centres), 2, 3), got=crops.shape)
    edges, in_order = (
        (_single_cuts(centres, crops, recipe, seed), True)
        if recipe.block_nm is None
        else (_grid(crops, recipe.block_nm), False)
    )
    touched, blocks = _touched_blocks(crops, edges)
    home = _codes(np.stack([np.searchsorted(e, c, "right") for e, c in zip(edges, centres.T, strict=True)], 1), edges)
    split_of_block = _assign_blocks(np.unique(np.r_[blocks, home]), home, edges, recipe, seed, in_order=in_order)
    known, splits = split_of_block
    split = splits[np.searchsorted(known, home)]
    crossing = np.zeros(len(centres), np.bool_)
    np.logical_or.at(crossing, touched, splits[np.searchsorted(known, blocks)] != split[touched])
    torn = np.zeros(len(centres), np.bool_)
    if recipe.separate == "blocks and neurons":
        torn = _torn_neurons(rows, np.where(crossing, -1, split), recipe)
    kept = ~crossing & ~torn
    order = list(recipe.shares)
    names = tuple(order[s] if k else None for s, k in zip(split.tolist(), kept.tolist(), strict=True))
    left_out = {"crop in two splits": int(crossing.sum()), "neuron in two splits": int(torn.sum())}
    _refuse_empty(names, order, left_out, centres, crops)
    report = {
        "counts": {name: names.count(name) for name in order},
        "left_out": left_out,
        "block_nm": None if recipe.block_nm is None else list(recipe.block_nm),
        "separate": recipe.separate,
        "seed": seed,
        "overlap": overlap_report(names, rows, crops),
    }
    return Splits(names, report)


def _single_cuts(centres: Floats, crops: Floats, recipe: SplitRecipe, seed: int) -> list[Floats]:
    """Return one edge between each two neighbouring splits, across one axis, at the shares' quantiles."""
    edges: list[Floats] = [np.zeros(0)] * 3
    if len(centres) == 0:
        return edges
    size = (crops[:, 1] - crops[:, 0]).max(axis=0)
    axis = int(np.argmax((centres.max(axis=0) - centres.min(axis=0)) / np.maximum(size, 1e-9)))
    ordered = np.sort(centres[:, axis])
    shares = np.array([list(recipe.shares.values())[i] for i in _order(recipe, seed)])
    at = np.clip(np.round(np.cumsum(shares)[:-1] / shares.sum() * len(ordered)).astype(int), 1, len(ordered) - 1)
    edges[axis] = np.unique((ordered[at - 1] + ordered[at]) / 2) if len(ordered) > 1 else np.zeros(0)
    return edges


def _order(recipe: SplitRecipe, seed: int) -> list[int]:
    """Return the splits in random order: which end of the volume is held out."""
    stream = Stream(seed, "instances", "splits")
    words = [stream.word() for _ in recipe.shares]
    return sorted(range(len(words)), key=lambda i: words[i])


def _grid(crops: Floats, block_nm: Sequence[float]) -> list[Floats]:
    edges: list[Floats] = []
    for axis, side in enumerate(block_nm):
        low, high = (crops[:, 0, axis].min(), crops[:, 1, axis].max()) if len(crops) else (0.0, 0.0)
        first, last = int(np.floor(low / side)) + 1, int(np.ceil(high / side))
        if last - first > MOST_BLOCKS:
            raise InputError("block_nm is far too small", expected="blocks larger than a crop", got=list(block_nm))
        edges.append(np.arange(first, last, dtype=np.float64) * side)
    return edges


def _codes(blocks: Integers, edges: list[Floats]) -> Integers:
    """Return one number for each block (n, 3)."""
    codes: Integers = (blocks[..., 0] * (len(edges[1]) + 1) + blocks[..., 1]) * (len(edges[2]) + 1) + blocks[..., 2]
    return codes.astype(np.int64)


def _touched_blocks(crops: Floats, edges: list[Floats]) -> tuple[Integers, Integers]:
    """Return pairs (instance, block) of all blocks that a crop reaches into."""
    low = np.stack([np.searchsorted(edges[a], crops[:, 0, a], "right") for a in range(3)], axis=1)
    high = np.stack([np.searchsorted(edges[a], crops[:, 1, a], "left") for a in range(3)], axis=1)
    most = (high - low).max(axis=0, initial=0) + 1
    if int(np.prod(most)) * len(crops) > 50 * MOST_BLOCKS:
        raise InputError("a crop covers too many blocks", expected="block_nm larger than a crop", got=most.tolist())
    instances, blocks = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in product(*(range(n) for n in most)):
        block = low + np.array(step)
        reached = np.flatnonzero((block <= high).all(axis=1))
        instances.append(reached)
        blocks.append(_codes(block[reached], edges))
    return np.concatenate(instances), np.concatenate(blocks)


def _assign_blocks(
    blocks: Integers, home: Integers, edges: list[Floats], recipe: SplitRecipe, seed: int, *, in_order: bool
) -> tuple[Integers, Integers]:
    """Return all blocks, sorted, and the split of each: in random order always to the split that lacks most."""
    counts = np.zeros(len(blocks), np.int64)
    np.add.at(counts, np.searchsorted(blocks, home), 1)
    if in_order:
        return blocks, np.array(_order(recipe, seed), np.int64)[blocks]
    _, ny, nz = (len(e) + 1 for e in edges)
    sides = np.stack([blocks // (ny * nz), blocks // nz % ny, blocks % nz], axis=1)
    words = mix_cells(sides, np.uint64(Stream(seed, "instances", "blocks").word()))
    order = np.lexsort((words, counts == 0))  # empty ones last: only crops reach into them
    shares = np.array(list(recipe.shares.values()))
    wanted = shares / shares.sum() * counts.sum()
    given, splits = np.zeros(len(shares)), np.zeros(len(blocks), np.int64)
    occupied = int((counts > 0).sum())
    for number, block in enumerate(order):
        lack = wanted - given
        if occupied - number <= int((given == 0).sum()):  # the last ones go to splits that have none
            lack = np.where(given == 0, lack, -np.inf)
        splits[block] = int(np.argmax(lack))
        given[splits[block]] += counts[block]
    return blocks, splits


def _torn_neurons(rows: Rows, split: Integers, recipe: SplitRecipe) -> NDArray[np.bool_]:
    """Return which instances (split -1: left out already) have a neuron that went to another split."""
    pairs = np.stack([rows.column("pre_neuron_id"), rows.column("post_neuron_id")], axis=1).clip(min=0)
    neurons, number = np.unique(pairs, return_inverse=True)
    number = number.reshape(pairs.shape)
    votes = np.zeros((len(neurons), len(recipe.shares)))
    used = split >= 0
    for side in (0, 1):
        np.add.at(votes, (number[used, side], split[used]), 1)
    goes = np.argmax(votes / np.array(list(recipe.shares.values())), axis=1)
    away = (goes[number] != split[:, None]) & (pairs > 0)
    torn: NDArray[np.bool_] = used & away.any(axis=1)
    return torn


def _refuse_empty(
    names: Sequence[str | None], order: list[str], left_out: dict[str, int], centres: Floats, crops: Floats
) -> None:
    empty = [name for name in order if name not in names]
    if empty:
        extent = np.ptp(centres, axis=0).round().tolist() if len(centres) else [0, 0, 0]
        crop = (crops[:, 1] - crops[:, 0]).max(axis=0, initial=0).tolist()
        counts = ", ".join(f"{name} {names.count(name)}" for name in order)
        raise InputError(
            f"no instance is left for {', '.join(empty)}",
            expected="instances in every split",
            got=f"{counts}; left out: {left_out}; centres span {extent} nm, a crop {crop} nm",
            remedy="take more instances, smaller crops, larger blocks (or block_nm: null, a single cut), "
            "or separate: blocks if neurons may be shared",
        )
