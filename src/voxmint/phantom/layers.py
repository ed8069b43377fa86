"""A connectome made of nothing: an EM-like image, clefts on its membranes, and their table, as a user would have them.

Two neuroglancer precomputed layers of different voxel size and offset, written here as plain files (encoding ``raw``),
and a materialization table (CSV) in voxels of the target. Some clefts touch another one, are cut by a face of the
volume, are tiny, or have a row but no mask. The same arguments give the same bytes on any machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import RecipeError
from voxmint.phantom.micrograph import Micrograph, Site
from voxmint.phantom.tissue import BLOCK, Slice, Tissue, random_words
from voxmint.randomness import Stream
from voxmint.stores.place import Place

SOURCE_VOXEL_NM, TARGET_VOXEL_NM = (8, 8, 30), (16, 16, 30)
"""Voxel sizes (x, y, z) of the image, and of the segmentation and the table."""
SOURCE_OFFSET, TARGET_OFFSET = (80, 48, 12), (40, 24, 12)
"""Index (x, y, z) of each layer's first voxel: the same point in nm."""
SIZE = (512, 512, 40)
"""Default size (x, y, z) of the image in its voxels."""
INSTANCES = 48
"""Default number of rows of the table."""
KINDS = ("plain", "touching", "border", "tiny", "missing")
"""What is said of a row in the table's column ``kind``."""

_CHUNK = (64, 64, 16)
_SHARES = {"missing": 1 / 12, "tiny": 1 / 12, "border": 1 / 6, "touching": 1 / 6}
_APART_NM, _AWAY_FROM_MISSING_NM = 400, 650
_INSIDE_NM = (150, 220, 220)  # z, y, x: how far from all faces an instance is that is not at one
_GAP_NM, _HALF_CLEFT_NM, _DEEP_NM = 9, 22, 45
_HEADER = ("x,y,z,pre_pt_x,pre_pt_y,pre_pt_z,post_pt_x,post_pt_y,post_pt_z,pre_neuron_id,post_neuron_id,kind",)


def make_phantom(
    out: str | Path,
    *,
    size: tuple[int, int, int] = SIZE,
    instances: int = INSTANCES,
    seed: int = 0,
) -> dict[str, Path]:
    """Write image, segmentation and table into a folder.

    Parameters
    ----------
    out : path
        The folder, made if absent.
    size : three int
        Size (x, y, z) of the image in its voxels of 8 x 8 x 30 nm; x and y multiples of 4. The target covers the same
        block in voxels of 16 x 16 x 30 nm.
    instances : int
        Rows of the table. Of 12, about one has no mask, one is tiny, two are cut by a face, and two touch each other.
    seed : int
        Everything is drawn from it.

    Returns
    -------
    dict
        Paths of ``source``, ``target`` (precomputed layers) and ``table`` (CSV, in voxels of the target).

    Raises
    ------
    RecipeError
        The size cannot be used, or so many instances find no place.
    StorageError
        The folder cannot be written.
    """
    if min(size) < 8 or any(n % BLOCK for n in size[:2]) or instances < 1:
        raise RecipeError("impossible phantom", got=f"size {tuple(size)}, {instances} instances",
                          expected="x and y multiples of 4, all at least 8, and at least one instance")  # fmt: skip
    x, y, z = SOURCE_VOXEL_NM
    tissue = Tissue((size[2], size[1], size[0]), (z, y, x), seed)
    sites = _place_sites(tissue, instances, seed)
    picture = Micrograph(tissue, sites, seed)
    place, folder = Place(out), Path(out)
    source = _LayerWriter(place, "source", "image", np.dtype("<u1"), SOURCE_VOXEL_NM, SOURCE_OFFSET, size)
    target_size = (size[0] // 2, size[1] // 2, size[2])
    target = _LayerWriter(place, "target", "segmentation", np.dtype("<u4"), TARGET_VOXEL_NM, TARGET_OFFSET, target_size)
    masks: list[list[NDArray[np.int64]]] = [[] for _ in range(instances)]
    ends: dict[Site, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for number in range(size[2]):
        plane = tissue.plane(number)
        source.add(picture.draw(number, plane))
        labels = _labels(tissue, sites, number, plane)
        target.add(labels)
        ends |= {site: _ends(tissue, site, plane) for site in sites if site.voxel(tissue)[0] == number}
        for label in np.unique(labels[labels > 0]).tolist():
            rows, columns = np.nonzero(labels == label)
            masks[label - 1].append(np.stack([np.full(rows.size, number), rows, columns], axis=1))
    place.write("materialization.csv", _table(tissue, sites, masks, ends).encode())
    source.finish()
    target.finish()
    return {"source": folder / "source", "target": folder / "target", "table": folder / "materialization.csv"}


@dataclass
class _LayerWriter:
    """Writes a precomputed layer slice by slice, one row of chunks at a time; its ``info`` comes last."""

    place: Place
    name: str
    kind: str
    dtype: np.dtype[Any]
    voxel_nm: tuple[int, int, int]
    offset: tuple[int, int, int]
    size: tuple[int, int, int]

    def __post_init__(self) -> None:
        self.key = "_".join(map(str, self.voxel_nm))
        self._slices: list[NDArray[Any]] = []
        self._done = 0

    def add(self, plane: NDArray[Any]) -> None:
        """Take the next slice, (y, x)."""
        self._slices.append(plane.astype(self.dtype))
        if len(self._slices) == _CHUNK[2] or self._done + len(self._slices) == self.size[2]:
            self._flush()

    def finish(self) -> None:
        """Make it a layer."""
        scale = {"key": self.key, "size": list(self.size), "resolution": list(self.voxel_nm),
                 "voxel_offset": list(self.offset), "chunk_sizes": [list(_CHUNK)], "encoding": "raw"}  # fmt: skip
        info = {"@type": "neuroglancer_multiscale_volume", "type": self.kind, "data_type": self.dtype.name,
                "num_channels": 1, "scales": [scale]}  # fmt: skip
        self.place.write(f"{self.name}/info", json.dumps(info, indent=1).encode())

    def _flush(self) -> None:
        slab = np.stack(self._slices)
        for y in range(0, self.size[1], _CHUNK[1]):
            for x in range(0, self.size[0], _CHUNK[0]):
                chunk = np.ascontiguousarray(slab[:, y : y + _CHUNK[1], x : x + _CHUNK[0]])  # x runs fastest, as in raw
                name = "_".join(
                    f"{first + at}-{first + at + count}"
                    for first, at, count in zip(self.offset, (x, y, self._done), chunk.shape[::-1], strict=True)
                )
                self.place.write(f"{self.name}/{self.key}/{name}", chunk.tobytes())
        self._done += len(self._slices)
        self._slices = []


def _place_sites(tissue: Tissue, instances: int, seed: int) -> list[Site]:
    """Choose points on clean membranes between two neurites, well apart, and what becomes of each."""
    counts = {kind: round(share * instances) for kind, share in _SHARES.items()}
    counts["touching"] -= counts["touching"] % 2
    counts["plain"] = instances - sum(counts.values())
    points, neurons, others = _candidates(tissue)
    order = np.argsort(random_words(Stream(seed, "sites"), len(points)), kind="stable")
    size = np.array(tissue.shape) * np.array(tissue.voxel_nm, np.int64)
    margin = np.minimum(points, size - points)
    at_face = margin.min(axis=1) < 40
    deep = np.minimum(_INSIDE_NM, size // 4)
    inside = (margin > deep).all(axis=1)
    free = np.ones(len(points), bool)
    sites: list[Site] = []
    for kind in ("missing", "border", "touching", "tiny", "plain"):
        wanted = counts[kind] // 2 if kind == "touching" else counts[kind]
        for place in order[(at_face if kind == "border" else inside)[order]]:
            if not wanted:
                break
            if not free[place]:
                continue
            wanted -= 1
            away = points - points[place]
            far = _AWAY_FROM_MISSING_NM if kind == "missing" else _APART_NM
            free &= (away * away).sum(axis=1) > far * far
            sites.append(_site(len(sites), kind, points[place], int(neurons[place]), int(others[place]), seed))
        if wanted:
            raise RecipeError("no place for so many instances", where="instances", got=instances,
                              expected=f"fewer in a block of {tissue.shape[::-1]} voxels",
                              remedy="ask for fewer, or for a larger block")  # fmt: skip
    mixed = np.argsort(random_words(Stream(seed, "rows"), len(sites)), kind="stable")
    return [sites[n] for n in mixed.tolist()]


def _candidates(tissue: Tissue) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return points (n, 3) in nm (z, y, x) on clean membranes, with the neurites on both sides."""
    points, neurons, others = [], [], []
    middle = slice(BLOCK // 2, None, BLOCK)
    for z in range(0, tissue.shape[0], 3):
        plane = tissue.plane(z)
        wide = np.unique(plane.neuron[plane.gap > _DEEP_NM])
        clean = (plane.gap < _GAP_NM) & (plane.clear > 170) & np.isin(plane.neuron, wide) & np.isin(plane.other, wide)
        rows, columns = np.nonzero(clean[middle, middle])
        rows, columns = BLOCK * rows + BLOCK // 2, BLOCK * columns + BLOCK // 2
        voxels = np.stack([np.full(rows.size, z), rows, columns], axis=1)
        points.append((2 * voxels + 1) * np.array(tissue.voxel_nm, np.int64) // 2)
        neurons.append(plane.neuron[rows, columns])
        others.append(plane.other[rows, columns])
    return np.concatenate(points), np.concatenate(neurons), np.concatenate(others)


def _site(number: int, kind: str, point: NDArray[np.int64], one: int, other: int, seed: int) -> Site:
    stream = Stream(seed, "site", number)
    pre, post = (one, other) if stream.chance(0.5) else (other, one)
    radius = stream.uniform(230, 290) if kind == "touching" else stream.uniform(110, 230)
    z, y, x = point.tolist()
    split = (stream.uniform(-1, 1), stream.uniform(-1, 1), stream.uniform(-1, 1))
    return Site((z, y, x), pre, post, 70.0 if kind == "tiny" else radius, kind, split)


def _labels(tissue: Tissue, sites: list[Site], z: int, plane: Slice) -> NDArray[np.uint32]:
    """Return the segmentation of a slice, uint32 (y, x) in voxels of the target; a site's ids follow its rows."""
    labels = np.zeros((tissue.shape[1] // 2, tissue.shape[2] // 2), np.uint32)
    row = 0
    for site in sites:
        row += 1
        window = site.window(tissue, z)
        if site.kind != "missing" and window is not None:
            rows, columns, away = window
            reach = 20.0 if site.kind == "tiny" else site.radius
            inside = (away < np.float32(reach)) & (plane.gap[rows, columns] < np.float32(_HALF_CLEFT_NM))
            inside &= site.between(plane, rows, columns)
            quarter = inside[::2, ::2].astype(np.uint8) + inside[1::2, ::2] + inside[::2, 1::2] + inside[1::2, 1::2]
            mask = quarter >= (1 if site.kind == "tiny" else 2)
            half = (slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2))
            number = np.where(site.second_half(tissue, z, rows, columns)[::2, ::2], row + 1, row)
            labels[half] = np.where(mask, number, labels[half])
        row += site.kind == "touching"
    return labels


def _ends(tissue: Tissue, site: Site, plane: Slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the nearest voxels (z, y, x) of the target well within the neurites before and behind a site."""
    z, row, column = site.voxel(tissue).tolist()
    found = []
    for neurite in (site.pre, site.post):
        rows, columns = np.nonzero((plane.neuron == neurite) & (plane.gap > _DEEP_NM))
        nearest = np.argmin((rows - row) * (rows - row) + (columns - column) * (columns - column))
        found.append(np.array([z, rows[nearest] // 2, columns[nearest] // 2]))
    return found[0], found[1]


def _table(
    tissue: Tissue,
    sites: list[Site],
    masks: list[list[NDArray[np.int64]]],
    ends: dict[Site, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> str:
    """Return the table; a centre is the voxel of the mask nearest to the middle of it."""
    lines, row = list(_HEADER), 0
    for site in sites:
        for _ in range(1 + (site.kind == "touching")):
            there = np.concatenate(masks[row]) if masks[row] else None
            row += 1
            centre = site.voxel(tissue) // np.array([1, 2, 2]) if there is None else _middle(there)
            points = [[int(n) + o for n, o in zip(p[::-1], TARGET_OFFSET, strict=True)] for p in (centre, *ends[site])]
            numbers = [n for point in points for n in point]
            lines.append(",".join(map(str, [*numbers, site.pre + 1, site.post + 1, site.kind])))
    return "\n".join(lines) + "\n"


def _middle(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    nm = np.array(TARGET_VOXEL_NM[::-1])
    away = (voxels * len(voxels) - voxels.sum(axis=0)) * nm
    found: NDArray[np.int64] = voxels[np.argmin((away * away).sum(axis=1))]
    return found
