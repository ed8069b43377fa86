"""One instance cut out: what was read of both layers becomes image, mask and validity, or a rejection with reason."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import ChunkError, LayerError, RejectedSample
from voxmint.instances.cut.cutout import Bytes, Cutter, Frame
from voxmint.instances.cut.target import Chosen, choose
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.table import Instance
from voxmint.sample import JSON
from voxmint.volumes.layer import Cutout, Layer

_UNREAD = "a chunk could not be read: "


@dataclass(frozen=True)
class Reading:
    """A row whose chunks are on their way."""

    row: Instance
    frame: Frame
    source: Future[Cutout]
    target: Future[Cutout]
    reads: dict[str, str] = field(default_factory=dict)
    """Filled as voxels are taken, so that a rejected row names what decided that, whatever else was on its way."""

    def voxels(self, layer: Literal["source", "target"]) -> NDArray[Any]:
        """Wait for what is read of a layer, axes (z, y, x)."""
        cutout: Cutout = getattr(self, layer).result()
        self.reads.update({f"{layer} {name}": digest for name, digest in cutout.reads.items()})
        return cutout.array.T


@dataclass(frozen=True)
class Cut:
    """What all scenarios of an instance share. Arrays are uint8 (z, y, x) and cannot be written.

    Attributes
    ----------
    source, target, valid : uint8 (z, y, x)
        Image, mask of the instance, and voxels that are real.
    slices : tuple of int
        Slices on which the instance is, along the slice axis.
    record : dict
        How it was made, as JSON.
    reads : mapping of str to str
        Digest of each chunk of both layers that was read, by its name with ``source`` or ``target`` before it.
    """

    source: Bytes
    target: Bytes
    valid: Bytes
    slices: tuple[int, ...]
    record: JSON
    reads: Mapping[str, str]


class Extractor:
    """Cuts out instances.

    Parameters
    ----------
    recipe : InstanceRecipe
        How samples are made.
    source, target : Layer
        Image and segmentation.
    """

    def __init__(self, recipe: InstanceRecipe, source: Layer, target: Layer) -> None:
        self.recipe, self.source, self.target = recipe, source, target
        self.cutter = Cutter(recipe, source, target)
        self.axis = "zyx".index(recipe.slice_axis)

    def submit(self, row: Instance) -> Reading:
        """Start reading what a row needs, and return at once."""
        frame = self.cutter.frame(row.centre_nm)
        return Reading(row, frame, self.source.submit(frame.source), self.target.submit(frame.target))

    def finish(self, reading: Reading) -> Cut | RejectedSample:
        """Wait for what is being read, and cut it out.

        Raises
        ------
        ChunkError
            A chunk is missing, forbidden or unreadable, and the recipe does not say that this rejects the row.
        """
        try:
            return self._cut(reading)
        except RejectedSample as error:
            rejected = error.with_traceback(None)  # which holds this call, and so all voxels, in a circle
        except ChunkError as error:
            if self.recipe.on_chunk_error == "fail":
                raise
            rejected = RejectedSample(f"{_UNREAD}{error}")
        rejected.record, rejected.reads = self._record(reading), reading.reads
        return rejected

    def look(self, row: Instance) -> Cut:
        """Return what lies around a row whether or not it is rejected; its ``target`` is all that is not background."""
        reading = self.submit(row)
        frame, mask = reading.frame, reading.voxels("target") != 0
        everything = Chosen(mask, frame.target, 0, "everything", 0.0, int(np.count_nonzero(mask)))
        shape = frame.box.shape[::-1]
        shown = self.cutter.mask(everything, frame)[0] if mask.size else np.zeros(shape, np.uint8)
        image = self.cutter.image(reading.voxels("source"), frame)
        return Cut(image, shown, self.cutter.valid(frame), (), self._record(reading), reading.reads)

    def _cut(self, reading: Reading) -> Cut:
        frame = reading.frame
        for name, box in (("source", frame.source), ("target", frame.target_crop)):
            if box.empty:
                raise RejectedSample(f"the crop lies wholly outside the {name} layer")
        chosen = self._choose(reading.voxels("target"), reading)
        mask, part, where, how = self.cutter.mask(chosen, frame)
        slices = self._slices(part, where.start[2 - self.axis] - frame.box.start[2 - self.axis])
        arrays = (self.cutter.image(reading.voxels("source"), frame), mask, self.cutter.valid(frame))
        for array in arrays:
            array.flags.writeable = False  # shared by all scenarios
        component: JSON = {
            "id": chosen.label,
            "by": chosen.by,
            "distance_nm": round(chosen.distance_nm, 3),
            "target_voxels": chosen.voxels,
            "voxels": int(np.count_nonzero(part)),
            "slices": [slices[0], slices[-1] + 1],
        }
        if how != self.recipe.target_downsampling:
            component["downsampling"] = how  # too thin for any majority
        return Cut(*arrays, slices, {**self._record(reading), "component": component}, reading.reads)

    def _choose(self, labels: NDArray[Any], reading: Reading) -> Chosen:
        recipe, frame = self.recipe.choice, reading.frame
        chosen = choose(labels, frame.target, self.target.voxel_size_nm, reading.row, recipe)
        if frame.target != frame.target_crop:
            chosen = chosen.within(frame.target_crop)
        if chosen.voxels < recipe.min_voxels:
            raise RejectedSample(
                f"the instance has {chosen.voxels} target voxels within the crop, fewer than {recipe.min_voxels}"
            )
        return chosen

    def _slices(self, part: NDArray[np.bool_], first: int) -> tuple[int, ...]:
        """Return the slices of the sample on which the instance is; ``part`` begins at slice ``first``."""
        others = tuple(axis for axis in range(3) if axis != self.axis)
        slices = tuple((np.flatnonzero(part.any(axis=others)) + first).tolist())
        few = self.recipe.seeds.few.limits[0] if self.recipe.seeds.model == "few" else 1
        fewest = max(few, self.recipe.choice.min_slices)
        if len(slices) < fewest:
            raise RejectedSample(f"the instance is on {len(slices)} slices of the sample, fewer than {fewest}")
        return slices

    def _record(self, reading: Reading) -> JSON:
        return {"instance": reading.row.to_dict(), **self.cutter.describe(reading.frame)}


def is_sparse(layer: Layer) -> bool:
    """Return whether absent chunks of a layer are read as 0."""
    try:
        return bool(layer.spec().get("sparse", False))
    except LayerError:
        return False  # an array in memory lacks nothing


def is_for_lack_of(reason: str, url: str) -> bool:
    """Tell whether a row was rejected since a chunk of the layer at ``url`` is absent."""
    return reason.startswith(f"{_UNREAD}{url}: chunk ") and " is missing" in reason
