"""Where the crop around an instance lies in each layer, and what is cut out there.

All positions are nm, converted with each layer's own voxel size; a layer's offset is part of its voxel indices. Beyond
a layer's bounds the sample is padded, in voxels of the sample and on every axis alike. Boxes are (x, y, z), arrays
(z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError, RecipeError
from voxmint.instances.cut.resample import Downsampled, Grids, nearest_edge
from voxmint.instances.cut.target import Chosen
from voxmint.instances.recipe import InstanceRecipe
from voxmint.sample import JSON
from voxmint.volumes.box import Box, Lengths, Voxels, box_around_nm, exact, size_in_voxels, voxel_at_nm
from voxmint.volumes.layer import Layer

Bytes = NDArray[np.uint8]
_MAX_VOXELS = 1 << 28
_DECIMALS = 6


@dataclass(frozen=True)
class Frame:
    """The boxes of one crop.

    Attributes
    ----------
    box : Box
        The sample, in voxels of its own grid.
    source, target : Box
        What is read of each layer, in its voxels, within its bounds; the target with its context.
    target_crop : Box
        The target without its context.
    """

    box: Box
    source: Box
    target: Box
    target_crop: Box


class Cutter:
    """Cuts samples out of two layers.

    Parameters
    ----------
    recipe : InstanceRecipe
        Size of the crop, voxel size and padding.
    source, target : Layer
        Image and segmentation.

    Attributes
    ----------
    voxel_size_nm : tuple of float
        Voxel size (x, y, z) of the samples.
    size : tuple of int
        Their size (x, y, z) in voxels.
    source, target : Grids
        Each layer's grid beside the samples'.

    Raises
    ------
    InputError
        A layer's voxels are of a type that cannot be used.
    RecipeError
        The crop is too large.
    """

    def __init__(self, recipe: InstanceRecipe, source: Layer, target: Layer) -> None:
        _check_types(recipe, source, target)
        self._recipe, self._source_layer, self._target_layer = recipe, source, target
        x, y, z = recipe.voxel_size_nm or source.voxel_size_nm
        self.voxel_size_nm = (float(x), float(y), float(z))
        self.source = Grids(self.voxel_size_nm, source.voxel_size_nm, source.bounds)
        self.target = Grids(self.voxel_size_nm, target.voxel_size_nm, target.bounds)
        self.size = self._size()
        if self.size[0] * self.size[1] * self.size[2] > _MAX_VOXELS:
            raise RecipeError("the crop is too large", expected=f"at most {_MAX_VOXELS:,} voxels of {x} x {y} x {z} nm",
                              got=" x ".join(map(str, self.size)), remedy="correct crop or voxel size")  # fmt: skip
        self._all_valid = np.ones(self.size[::-1], np.uint8)
        self._all_valid.flags.writeable = False

    def _size(self) -> Voxels:
        if self._recipe.crop_nm is not None:
            return size_in_voxels(self._recipe.crop_nm, self.voxel_size_nm)
        assert self._recipe.crop_vx is not None
        whole = [
            exact(n) * exact(s) for n, s in zip(self._recipe.crop_vx, self._target_layer.voxel_size_nm, strict=True)
        ]
        return size_in_voxels(whole, self.voxel_size_nm)

    def frame(self, centre_nm: Lengths) -> Frame:
        """Return where the crop around a point lies.

        A crop given in target voxels covers exactly these, with the voxel that holds the point at index ``size // 2``,
        as far as the sample's grid allows: its first voxel is the one whose lower corner is nearest to theirs.
        """
        if self._recipe.crop_vx is None:
            box = box_around_nm(centre_nm, self.size, self.voxel_size_nm)
        else:
            voxel = voxel_at_nm(centre_nm, self._target_layer.voxel_size_nm)
            crop = [v - n // 2 for v, n in zip(voxel, self._recipe.crop_vx, strict=True)]
            start = [nearest_edge(v, r) for v, r in zip(crop, self.target.ratio, strict=True)]
            box = Box.at(start, self.size)
        crop_box = self.target.layer_box(box).intersect(self.target.bounds)
        if crop_box.empty:
            return Frame(box, self._source_box(box), crop_box, crop_box)
        around = self._recipe.choice.context_vx
        low = [a - n for a, n in zip(crop_box.start, around, strict=True)]
        high = [a + n for a, n in zip(crop_box.stop, around, strict=True)]
        read = Box((low[0], low[1], low[2]), (high[0], high[1], high[2])).intersect(self.target.bounds)
        return Frame(box, self._source_box(box), read, crop_box)

    def _source_box(self, box: Box) -> Box:
        visible = box.intersect(self.source.visible)
        return visible if visible.empty else self.source.image_box(visible)

    def crop_nm(self, centre_nm: Lengths) -> NDArray[np.float64]:
        """Return start and (excluded) stop (2, 3) in nm (x, y, z) of all that a crop reads or pads."""
        frame = self.frame(centre_nm)
        sizes = (self.voxel_size_nm, self._source_layer.voxel_size_nm, self._target_layer.voxel_size_nm)
        boxes = zip((frame.box, frame.source, frame.target), sizes, strict=True)
        ends = [(np.multiply(box.start, size), np.multiply(box.stop, size)) for box, size in boxes if not box.empty]
        low, high = np.min([end[0] for end in ends], axis=0), np.max([end[1] for end in ends], axis=0)
        return np.round(np.stack([low, high]), _DECIMALS)

    def image(self, array: NDArray[Any], frame: Frame) -> Bytes:
        """Return the sample's image, uint8 (z, y, x), from what was read of the source, (z, y, x)."""
        visible = frame.box.intersect(self.source.visible)
        if visible == frame.box:
            return self._grey(self.source.resample_image(array, frame.source, visible))
        out = np.full(frame.box.shape[::-1], self._recipe.source_padding, np.uint8)
        if not visible.empty:
            found = self.source.resample_image(array, frame.source, visible)
            out[visible.slices(frame.box)[::-1]] = self._grey(found)
        return out

    def _grey(self, values: NDArray[Any]) -> Bytes:
        if self._recipe.source_window is not None:
            low, high = self._recipe.source_window
            values = (values.astype(np.float64) - low) * (255.0 / (high - low))
        if values.dtype == np.uint8:
            return np.ascontiguousarray(values)
        grey: Bytes = np.floor(np.clip(values, 0.0, 255.0) + 0.5).astype(np.uint8, order="C")
        return grey

    def mask(self, chosen: Chosen, frame: Frame) -> tuple[Bytes, NDArray[np.bool_], Box, Downsampled]:
        """Return the instance on the sample's grid, 0 or 1, uint8 (z, y, x); the part with all of it, where, how."""
        mask = np.zeros(frame.box.shape[::-1], np.uint8)
        wanted = self._recipe.target_downsampling
        part, where, how = self.target.resample_mask(chosen.mask, chosen.box, frame.box, wanted)
        mask[where.slices(frame.box)[::-1]] = part
        return mask, part, where, how

    def valid(self, frame: Frame) -> Bytes:
        """Return which voxels of the sample, uint8 (z, y, x), have their centre within both layers' bounds.

        Where all do, it is one array for all samples, which cannot be written.
        """
        real = frame.box.intersect(self.source.visible).intersect(self.target.visible)
        if real == frame.box:
            return self._all_valid
        out = np.zeros(frame.box.shape[::-1], np.uint8)
        if not real.empty:
            out[real.slices(frame.box)[::-1]] = 1
        return out

    def describe(self, frame: Frame) -> JSON:
        """Return dimensions, scale factors, boxes and padding, axes (x, y, z), as JSON."""
        layers = (
            ("source", self._source_layer, self.source, frame.source),
            ("target", self._target_layer, self.target, frame.target_crop),
        )
        return {
            "voxel_size_nm": list(self.voxel_size_nm),
            "box_vx": _box(frame.box),
            "box_nm": [_nm(frame.box.start, self.voxel_size_nm), _nm(frame.box.stop, self.voxel_size_nm)],
            **{
                name: {
                    "dimensions": list(layer.bounds.shape),
                    "offset": list(layer.bounds.start),
                    "voxel_size_nm": list(layer.voxel_size_nm),
                    "scale": [ratio.denominator / ratio.numerator for ratio in grids.ratio],
                    "box_vx": _box(box),
                    "padding_vx": padding_of(frame.box, grids.visible),
                }
                for name, layer, grids, box in layers
            },
        }


def _box(box: Box) -> JSON | list[list[int]]:
    return [list(box.start), list(box.stop)]


def _nm(voxels: Voxels, voxel_size_nm: Lengths) -> list[float]:
    sizes = [exact(n) for n in voxel_size_nm]
    return [v * n.numerator / n.denominator for v, n in zip(voxels, sizes, strict=True)]


def padding_of(box: Box, visible: Box) -> list[list[int]]:
    """Return by how many voxels a box reaches beyond those that are visible, before and after along x, y, z."""
    before = [min(n, max(0, v - b)) for n, v, b in zip(box.shape, visible.start, box.start, strict=True)]
    after = [min(n, max(0, b - v)) for n, v, b in zip(box.shape, visible.stop, box.stop, strict=True)]
    return [before, after]


def _check_types(recipe: InstanceRecipe, source: Layer, target: Layer) -> None:
    if target.dtype.kind not in "iub":
        raise InputError("the target layer holds no labels", where=target.url, expected="integers", got=target.dtype,
                         remedy="give a segmentation as target; source and target may be swapped")  # fmt: skip
    if source.dtype != np.uint8 and recipe.source_window is None:
        raise InputError("the source layer's voxels are not uint8", where=source.url, expected="uint8",
                         got=source.dtype, remedy="set source_window to the values that become 0 and 255")  # fmt: skip
