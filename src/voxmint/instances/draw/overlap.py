"""Prove that splits share no voxel and no neuron, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from voxmint.instances.table.rows import rows_of
from voxmint.instances.table.table import Instance, Rows
from voxmint.instances.table.values import Floats
from voxmint.sample import JSON


def overlap_report(names: Sequence[str | None], instances: Rows | Sequence[Instance], crops_nm: Floats) -> JSON:
    """Compare every two splits, knowing nothing of how they were made.

    Returns
    -------
    dict
        For each pair, ``"a / b"``: how many crops of one overlap one of the other, the smallest distance in nm between
        their crops, and how many neurons and ids they share. ``disjoint`` is true when all of these counts are zero.
    """
    rows = rows_of(instances)
    neuron_ids = np.stack([rows.column("pre_neuron_id"), rows.column("post_neuron_id")], axis=1)
    row_ids = rows.column("id")
    splits = sorted({name for name in names if name is not None})
    number = {name: n for n, name in enumerate(splits)}
    split = np.fromiter((number.get(name, -1) if name is not None else -1 for name in names), np.int64, len(names))
    pairs: JSON = {}
    for a, b in combinations(splits, 2):
        of = [split == number[name] for name in (a, b)]
        overlapping, distance = _closest(crops_nm[of[0]], crops_nm[of[1]])
        neurons = [np.unique(ids[ids > 0]) for ids in (neuron_ids[which] for which in of)]
        ids = [np.unique(row_ids[which]) for which in of]
        pairs[f"{a} / {b}"] = {
            "overlapping_crops": overlapping,
            "smallest_distance_nm": distance,
            "shared_neurons": len(np.intersect1d(neurons[0], neurons[1])),
            "shared_ids": len(np.intersect1d(ids[0], ids[1])),
        }
    clean = all(pair["overlapping_crops"] == 0 and pair["shared_ids"] == 0 for pair in pairs.values())
    return {
        "disjoint": clean,
        "neurons_disjoint": all(p["shared_neurons"] == 0 for p in pairs.values()),
        "pairs": pairs,
    }


def _closest(first: Floats, second: Floats) -> tuple[int, float]:
    """Return how many pairs of boxes overlap, and the smallest distance between any two in nm; exact."""
    from scipy.spatial import cKDTree  # imported here: tables are read without it

    middle = [(boxes[:, 0] + boxes[:, 1]) / 2 for boxes in (first, second)]
    reach = max(float(((boxes[:, 1] - boxes[:, 0]) / 2).max()) for boxes in (first, second)) * 2
    tree = cKDTree(middle[0])
    apart, nearest = tree.query(middle[1], p=np.inf)
    bound = float(_gaps(first[nearest], second).min())
    # boxes whose middles lie further apart than this are further apart than the bound
    radius = (bound + reach) * (1 + 1e-9) + 1e-6
    overlapping = 0
    for i in np.flatnonzero(apart <= radius):
        near = np.array(tree.query_ball_point(middle[1][i], radius, p=np.inf), np.int64)
        gaps = _gaps(first[near], second[i][None])
        inside = (np.minimum(first[near, 1], second[i, 1]) > np.maximum(first[near, 0], second[i, 0])).all(axis=1)
        overlapping += int(inside.sum())
        bound = min(bound, float(gaps.min()))
    return overlapping, round(bound, 6)


def _gaps(first: Floats, second: Floats) -> Floats:
    """Return the distance in nm between boxes, pair by pair; 0 when they touch or overlap."""
    along = np.maximum(np.maximum(first[:, 0] - second[:, 1], second[:, 0] - first[:, 1]), 0)
    distance: Floats = np.sqrt((along * along).sum(axis=1))
    return distance
