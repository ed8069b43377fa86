"""What an electron microscope shows of tissue: membranes, mitochondria, synapses with vesicles, noise.

Grey values follow stained tissue seen by FIB-SEM or ssTEM in the usual polarity: what took up stain is dark. Arrays are
(y, x) of one slice, lengths nm, points (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxmint.phantom.tissue import Floats, Slice, Tissue, random_words, smooth_field
from voxmint.randomness import Stream

_CYTOPLASM, _BRIGHTEST = 158.0, 255.0
_VESICLES_NM, _RIM_NM, _APART_NM = 280, 17.0, 46
_SEEN_NM = 27


@dataclass(frozen=True)
class Site:
    """Where two neurites make a synapse.

    Attributes
    ----------
    point : three int
        Its middle (z, y, x), nm.
    pre, post : int
        The neurites before and behind it.
    radius : float
        Of the cleft, nm.
    kind : str
        What it is an example of.
    split : three float
        Normal (z, y, x) of the plane that halves a touching pair.
    """

    point: tuple[int, int, int]
    pre: int
    post: int
    radius: float
    kind: str
    split: tuple[float, float, float]

    def voxel(self, tissue: Tissue) -> NDArray[np.int64]:
        """Return the voxel (z, y, x) of the tissue that holds the middle."""
        return np.array([p // int(s) for p, s in zip(self.point, tissue.voxel_nm, strict=True)])

    def window(self, tissue: Tissue, z: int, reach: float = 0.0) -> tuple[slice, slice, Floats] | None:
        """Return rows and columns around the site in slice ``z`` and their distance to it; None if out of reach.

        Rows and columns begin and end at even numbers.
        """
        reach = (reach or self.radius) + 40
        if abs((z + 0.5) * tissue.voxel_nm[0] - self.point[0]) > reach:
            return None
        limits = []
        for axis in (1, 2):
            low = (self.point[axis] - reach) / tissue.voxel_nm[axis]
            high = (self.point[axis] + reach) / tissue.voxel_nm[axis]
            limits.append(slice(max(0, int(low) // 2 * 2), min(tissue.shape[axis], int(high) // 2 * 2 + 2)))
        dz, dy, dx = self._away(tissue, z, *limits)
        # lateral outlines are uneven, as real ones are
        uneven = smooth_field(tissue.seed, "uneven", 120.0, (tissue.centres(0)[z : z + 1], tissue.centres(1)[limits[0]],
                                                             tissue.centres(2)[limits[1]]))[0]  # fmt: skip
        away = np.sqrt(dz * dz + dy * dy + dx * dx) * (np.float32(1) + np.float32(0.3) * uneven)
        return limits[0], limits[1], away

    def between(self, plane: Slice, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Tell which voxels lie in either neurite with the other as neighbour."""
        one, other = plane.neuron[rows, columns], plane.other[rows, columns]
        both: NDArray[np.bool_] = ((one == self.pre) & (other == self.post)) | (
            (one == self.post) & (other == self.pre)
        )
        return both

    def second_half(self, tissue: Tissue, z: int, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Tell which voxels are the second one's of a touching pair."""
        dz, dy, dx = self._away(tissue, z, rows, columns)
        side = dz * np.float32(self.split[0]) + dy * np.float32(self.split[1]) + dx * np.float32(self.split[2])
        second: NDArray[np.bool_] = (side > 0) & (self.kind == "touching")
        return second

    def _away(self, tissue: Tissue, z: int, rows: slice, columns: slice) -> tuple[np.float32, Floats, Floats]:
        return (
            tissue.centres(0)[z] - np.float32(self.point[0]),
            (tissue.centres(1)[rows] - np.float32(self.point[1]))[:, None],
            (tissue.centres(2)[columns] - np.float32(self.point[2]))[None, :],
        )


class Micrograph:
    """Draws slices of tissue with its synapses."""

    def __init__(self, tissue: Tissue, sites: list[Site], seed: int) -> None:
        self.tissue, self.sites, self.seed = tissue, sites, seed
        neurites, capsules = int(tissue.neuron.max()) + 1, len(tissue.radius)
        self._tint = np.array([Stream(seed, "tint", n).uniform(-13, 13) for n in range(neurites)], np.float32)
        organelle = [Stream(seed, "organelle", n) for n in range(capsules)]
        chances = [stream.uniform(0.5, 0.8) if stream.chance(0.3) else 0.0 for stream in organelle]
        self._mitochondrion = np.array(chances, np.float32)
        self._vesicles = [self._scatter(site, n) for n, site in enumerate(sites)]

    def draw(self, z: int, plane: Slice) -> NDArray[np.uint8]:
        """Return the image of slice ``z``, uint8 (y, x)."""
        grey = self._cytoplasm(z, plane)
        self._mitochondria(plane, grey)
        membrane = _ridge(plane.gap, 10.0, 10.5) * np.float32(96) + _ridge(plane.gap, 0.0, 6.0) * np.float32(22)
        grey -= membrane
        for site, vesicles in zip(self.sites, self._vesicles, strict=True):
            self._synapse(z, plane, grey, site)
            height = np.abs((2 * z + 1) * int(self.tissue.voxel_nm[0]) // 2 - vesicles[:, 0])
            for vesicle in vesicles[height < _SEEN_NM]:
                self._vesicle(z, plane, grey, site, vesicle)
        return self._developed(z, _blurred(grey))

    def _cytoplasm(self, z: int, plane: Slice) -> Floats:
        tissue = self.tissue
        axes = (tissue.centres(0)[z : z + 1], tissue.centres(1), tissue.centres(2))
        grain = smooth_field(self.seed, "grain", 26.0, axes)[0]
        cloud = smooth_field(self.seed, "cloud", 150.0, axes)[0]
        grey: Floats = (
            np.float32(_CYTOPLASM) + self._tint[plane.neuron] + grain * np.float32(20) + cloud * np.float32(9)
        )
        # tubules seen end on: the darkest grains
        grey -= np.maximum(grain - np.float32(0.62), np.float32(0)) * np.float32(90)
        return grey

    def _mitochondria(self, plane: Slice, grey: Floats) -> None:
        share = self._mitochondrion[plane.capsule]
        wide = np.minimum(np.maximum(plane.radius, np.float32(130)) * share, np.float32(170))
        past = np.maximum(np.abs(plane.along - plane.length * np.float32(0.5)) - plane.length * np.float32(0.3), 0)
        depth = wide - np.sqrt(plane.axis * plane.axis + past * past)
        depth = np.minimum(depth, plane.gap - np.float32(26))  # never through the neurite's own membrane
        depth = np.where(wide > 55, depth, np.float32(-99))
        inside = depth > 0
        wave = plane.along * np.float32(1 / 46) + plane.axis * np.float32(1 / 150)
        ridge = np.abs(wave - np.floor(wave) - np.float32(0.5))  # 0 at the fold of a crista
        crista = np.maximum(np.float32(0.17) - ridge, 0) * np.float32(230) * (depth > 16)
        grey -= np.where(inside, np.float32(34) + crista, np.float32(0))
        grey -= _ridge(depth, 0.0, 10.0) * np.float32(62)

    def _synapse(self, z: int, plane: Slice, grey: Floats, site: Site) -> None:
        window = site.window(self.tissue, z)
        if window is None:
            return
        rows, columns, away = window
        edge = np.minimum(np.maximum((np.float32(site.radius) - away) * np.float32(1 / 25), 0), 1)
        edge = edge * site.between(plane, rows, columns)
        gap = plane.gap[rows, columns]
        post = plane.neuron[rows, columns] == site.post
        density = np.maximum(np.float32(1) - gap * np.float32(1 / 48), 0)
        thin = np.maximum(np.float32(1) - gap * np.float32(1 / 26), 0)
        grey[rows, columns] -= edge * np.where(post, density * np.float32(105), thin * np.float32(55))

    def _scatter(self, site: Site, number: int) -> NDArray[np.int64]:
        """Draw points (n, 3) around a site where vesicles would be, if they fall on the right side of it."""
        stream = Stream(self.seed, "vesicles", number)
        reach = _VESICLES_NM if site.kind != "tiny" else _VESICLES_NM // 2
        points = np.array([[stream.integer(-reach, reach) for _ in range(3)] for _ in range(5 * reach // 2)])
        points = points[(points * points).sum(axis=1) < reach * reach]
        kept = np.ones(len(points), bool)
        for one in range(len(points)):  # none within an earlier one
            away = points[:one][kept[:one]] - points[one]
            kept[one] = not ((away * away).sum(axis=1) < _APART_NM * _APART_NM).any()
        placed: NDArray[np.int64] = points[kept] + np.array(site.point)
        return placed

    def _vesicle(self, z: int, plane: Slice, grey: Floats, site: Site, point: NDArray[np.int64]) -> None:
        size = self.tissue.voxel_nm
        height = abs((z + 0.5) * size[0] - int(point[0]))
        row, column = int(point[1] // size[1]), int(point[2] // size[2])
        if not (5 <= row < grey.shape[0] - 5 and 5 <= column < grey.shape[1] - 5):
            return
        if plane.neuron[row, column] != site.pre or plane.gap[row, column] < 30:
            return
        spot = (slice(row - 4, row + 5), slice(column - 4, column + 5))
        dy = (self.tissue.centres(1)[spot[0]] - np.float32(point[1]))[:, None]
        dx = (self.tissue.centres(2)[spot[1]] - np.float32(point[2]))[None, :]
        away = np.sqrt(dy * dy + dx * dx)
        radius = _RIM_NM + 3.0 if height < 15 else _RIM_NM - 5.0
        grey[spot] -= _ridge(away, radius, 9.5) * np.float32(88 if height < 15 else 50)
        grey[spot] += np.maximum(np.float32(1) - away * np.float32(1 / 12), 0) * np.float32(22)

    def _developed(self, z: int, grey: Floats) -> NDArray[np.uint8]:
        """Add noise and the slice's own brightness and contrast."""
        stream = Stream(self.seed, "slice", z)
        contrast, brightness = stream.uniform(0.88, 1.1), stream.uniform(-9, 9)
        words = random_words(stream, -(-grey.size // 2)).astype("<u8")
        parts = words.view(np.uint8).reshape(-1, 4)[: grey.size].astype(np.int16)
        # three bytes summed are nearly normal; the fourth is left
        noise = (parts[:, 0] + parts[:, 1] + parts[:, 2] - 382).astype(np.float32).reshape(grey.shape)
        soft = _blurred(noise)
        grey = (grey - 128) * np.float32(contrast) + np.float32(128 + brightness)
        grey = grey + noise * np.float32(0.05) + soft * np.float32(0.1)
        image: NDArray[np.uint8] = np.floor(np.clip(grey, 0, _BRIGHTEST) + np.float32(0.5)).astype(np.uint8)
        return image


def _ridge(values: Floats, at: float, width: float) -> Floats:
    """Return 1 where values are ``at``, falling to 0 ``width`` away."""
    away = np.abs(values - np.float32(at)) * np.float32(1 / width)
    ridge: Floats = np.maximum(np.float32(1) - away, np.float32(0))
    return ridge


def _blurred(grey: Floats) -> Floats:
    """Return the image blurred by 1/4, 1/2, 1/4 along both axes."""
    for axis in (0, 1):
        padded = np.pad(grey, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        before, after = (padded.take(range(s, s + grey.shape[axis]), axis=axis) for s in (0, 2))
        grey = grey * np.float32(0.5) + (before + after) * np.float32(0.25)
    return grey
