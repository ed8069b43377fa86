"""Do a table and its layers speak of the same place? A few dozen points are looked up before a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import ChunkError, InputError
from voxmint.instances.table.rows import rows_of
from voxmint.instances.table.table import Instance, Rows
from voxmint.instances.table.values import Floats
from voxmint.sample import JSON
from voxmint.volumes.box import Box, box_covering_nm, voxel_at_nm
from voxmint.volumes.layer import Layer

Size = tuple[float, float, float]

USUAL_SIZES: tuple[Size, ...] = (
    *((1, 1, 1), (4, 4, 33), (8, 8, 33), (4, 4, 40), (8, 8, 40), (16, 16, 40), (32, 32, 40)),
    *((8, 8, 8), (16, 16, 33), (4, 4, 30), (10, 10, 10)),
)
"""Voxel sizes in nm that tables of this field are written in; (1, 1, 1) are nm."""
GOOD_ENOUGH = 0.9
"""Hit rate from which no alternative is tried."""
CLEARLY_BETTER = 0.25
"""By how much an alternative must hit more often to be believed against the stated size."""


def check_overlap(source: Layer, target: Layer) -> JSON:
    """Return both layers' bounds in nm and the share of the target that lies within the source.

    Raises
    ------
    InputError
        They share no voxel.
    """
    bounds = {name: _bounds_nm(layer) for name, layer in (("source", source), ("target", target))}
    low = np.maximum(bounds["source"][0], bounds["target"][0])
    high = np.minimum(bounds["source"][1], bounds["target"][1])
    shared = np.maximum(high - low, 0)
    if (shared == 0).any():
        raise InputError(
            "the source and the target layer do not overlap",
            expected="two layers of one specimen in the same nm space",
            got="; ".join(f"{name} {_span(*box)}" for name, box in bounds.items()),
            remedy="check the two addresses, their voxel sizes and offsets",
        )
    share = float(np.prod(shared / (bounds["target"][1] - bounds["target"][0])))
    return {
        **{f"{name}_nm": [low.tolist(), high.tolist()] for name, (low, high) in bounds.items()},
        "target_within_source": round(share, 4),
    }


def check_table(
    instances: Rows | Sequence[Instance],
    target: Layer,
    table_voxel_size_nm: Size,
    *,
    source: Layer | None = None,
    radius_nm: float = 50.0,
    points: int = 48,
    minimum_hit_rate: float = 0.5,
) -> JSON:
    """Look up instances in the target at the stated voxel size; refuse when they miss, saying what would hit.

    A hit is a label that is not zero (the instance's own, where the table names it) in a voxel that the cube of
    ``radius_nm`` around the centre touches. A centre outside the layer is a miss.

    Parameters
    ----------
    instances : Rows or sequence of Instance
        As drawn from the table, best in random order; the first ``points`` are looked up.
    target : Layer
        Segmentation.
    table_voxel_size_nm : tuple of float
        Voxel size (x, y, z) that the table was read with.
    source : Layer, optional
        Image: its voxel size is one of the alternatives.
    radius_nm : float
        How far from the centre a label may be.
    points : int
        Most instances looked up.
    minimum_hit_rate : float
        Share of hits below which the table is refused.

    Returns
    -------
    dict
        JSON-able: points, hit rate, those outside or unreadable, and the hit rates of the alternatives tried.

    Raises
    ------
    InputError
        Too few hits, or clearly more at another voxel size or order of axes.
    ChunkError
        No point could be read; those that cannot, beside others, are counted and left out.
    """
    chosen = rows_of(instances).take(slice(points))
    if not len(chosen):
        raise InputError("no instances to look up", expected="at least one row of the table")
    stated = chosen.centre_nm
    ids = [instance.target_id for instance in chosen.instances()]

    def rate(centres_nm: Floats) -> float:
        return _rate(_hits(target, centres_nm, ids, radius_nm)[0])

    within, (hits, errors) = _within(target, stated), _hits(target, stated, ids, radius_nm)
    if errors and len(errors) == int(within.sum()):
        raise errors[0]
    hit = _rate(hits)
    report: JSON = {
        "points": len(chosen),
        "hit_rate": round(hit, 4),
        "outside": int((~within).sum()),
        "unreadable": len(errors),
        "table_voxel_size_nm": list(table_voxel_size_nm),
        "radius_nm": radius_nm,
        "alternatives": {},
    }
    if hit >= GOOD_ENOUGH:
        return report
    alternatives = _rates(stated, table_voxel_size_nm, target, source, rate)
    report["alternatives"] = {name: round(value, 4) for name, value in alternatives.items()}
    best = max(alternatives, key=lambda name: alternatives[name])
    if alternatives[best] >= max(minimum_hit_rate, hit + CLEARLY_BETTER):
        raise _refusal(f"your coordinates look like {best}, not {_size(table_voxel_size_nm)}", report, target, stated)
    if hit < minimum_hit_rate:
        raise _refusal("none of the usual voxel sizes or orders of axes fits either", report, target, stated)
    return report


def _rates(
    stated: Floats, size: Size, target: Layer, source: Layer | None, rate: Callable[[Floats], float]
) -> dict[str, float]:
    return {name: rate(centres) for name, centres in _alternatives(stated, size, target, source)}


def _alternatives(stated: Floats, size: Size, target: Layer, source: Layer | None) -> Iterator[tuple[str, Floats]]:
    """Yield the centres at other voxel sizes, with axes in another order, or counted from the offset."""
    units = stated / np.array(size)
    layers = [target] if source is None else [target, source]
    own: list[Size] = [layer.voxel_size_nm for layer in layers]
    turned: list[Size] = [(size[2], size[1], size[0])]
    for other in dict.fromkeys(tuple(float(s) for s in each) for each in (*own, *USUAL_SIZES, *turned)):
        if other != tuple(float(s) for s in size):
            yield _size(other), units * np.array(other)
    for axes in ("zyx", "yxz", "xzy", "yzx", "zxy"):
        yield (
            f"{_size(size)} with columns in the order {axes}",
            units[:, [axes.index(a) for a in "xyz"]] * np.array(size),
        )
    yield f"{_size(turned[0])} with columns in the order zyx", units[:, ::-1] * np.array(turned[0])
    offset = np.array(target.bounds.start)
    if offset.any():
        name = f"{_size(size)} counted from the target's first voxel"
        yield name, stated + offset * np.array(target.voxel_size_nm)


def _rate(hits: Floats) -> float:
    known = hits[~np.isnan(hits)]
    return float(known.mean()) if known.size else 0.0


def _hits(
    target: Layer, centres_nm: Floats, ids: Sequence[int | None], radius_nm: float
) -> tuple[Floats, list[ChunkError]]:
    """Return 1 for each hit, NaN where a chunk could not be read, and why: one bad chunk must not end a run."""
    hits, errors = np.zeros(len(centres_nm)), []
    inside = np.flatnonzero(_within(target, centres_nm))
    size = target.voxel_size_nm
    boxes: list[Box] = []
    for centre in centres_nm[inside]:
        low, high = (np.round(centre + sign * radius_nm, 6).tolist() for sign in (-1, 1))
        boxes.append(box_covering_nm(low, high, size).intersect(target.bounds))
    for position, cutout in target.read_many(boxes):
        at = int(inside[position])
        named = ids[at]
        if isinstance(cutout, ChunkError):
            hits[at] = np.nan
            errors.append(cutout)
            continue
        hits[at] = (cutout.array == named).any() if named is not None else (cutout.array != 0).any()
    return hits, errors


def _within(layer: Layer, points_nm: Floats) -> NDArray[np.bool_]:
    voxels = [voxel_at_nm(np.round(point, 6).tolist(), layer.voxel_size_nm) for point in points_nm]
    return np.array([layer.bounds.contains(voxel) for voxel in voxels], np.bool_)


def _bounds_nm(layer: Layer) -> tuple[Floats, Floats]:
    size = np.array(layer.voxel_size_nm)
    return np.round(np.array(layer.bounds.start) * size, 6), np.round(np.array(layer.bounds.stop) * size, 6)


def _span(low: Floats, high: Floats) -> str:
    return ", ".join(f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True)) + " nm"


def _size(size: Sequence[float]) -> str:
    return "x".join(f"{s:g}" for s in size) + " nm"


def _refusal(finding: str, report: JSON, target: Layer, stated: Floats) -> InputError:
    ranked = sorted(report["alternatives"].items(), key=lambda item: -item[1])
    rates = ", ".join(f"{name} {value:.0%}" for name, value in ranked[:6])
    return InputError(
        f"only {report['hit_rate']:.0%} of {report['points']} table points lie on the target: {finding}",
        where=target.url,
        expected=f"a label within {report['radius_nm']:g} nm of most centres",
        got=f"{_size(report['table_voxel_size_nm'])} {report['hit_rate']:.0%}; {rates}. The points as read span "
        f"{_span(stated.min(axis=0), stated.max(axis=0))}, the target {_span(*_bounds_nm(target))}; "
        f"{report['outside']} lie outside",
        remedy="correct the table's voxel size, its columns or their axes, or the target layer",
    )
