"""Every constant of the samples around instances, as named, documented, validated fields, with published defaults.

Method: the data generator of SynAnno's depth-wise auto-segmentation, with the corrections that each field names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from voxmint.recipe import Recipe

Share = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
SizeVx = tuple[PositiveInt, PositiveInt, PositiveInt]
"""Voxels along x, y, z."""
SizeNm = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
"""Nanometres along x, y, z."""
PUBLISHED_CROP_VX = (128, 128, 16)
_MAX_VOXELS = 1 << 28


def _number(value: Any) -> Any:
    """Return a number that was given as text, as on the command line: a choice among numbers is no text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ChoiceRecipe(Recipe):
    """Which object of the target is the instance of a row."""

    by: Literal["auto", "id", "nearest"] = "auto"
    """``id``: the target carries one id per instance; all voxels of the id that the row names, else of the one at or
    nearest to its points. ``nearest``: ids name no instances (a mask, classes); the connected component, of one id, at
    or nearest to its points. ``auto``: ``id`` for rows that name an id of the target, else ``nearest``."""
    nearest_to: Literal["centre", "segment"] = "centre"
    """What distances are measured to: the centre point, or the segment between pre and post point."""
    max_distance_nm: Annotated[float, Field(ge=0)] = 250.0
    """An instance further away, measured between centres of target voxels, is no instance: the row is rejected."""
    connectivity: Annotated[Literal[6, 18, 26], BeforeValidator(_number)] = 26
    """Neighbours of a voxel in 3D that belong to the same component."""
    context_vx: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 0, 0)
    """Target voxels (x, y, z) looked at beyond the crop on every side, so that pieces joined out there count as one."""
    min_voxels: PositiveInt = 1
    """Fewest target voxels of the instance within the crop; less is rejected."""
    min_slices: PositiveInt = 1
    """Fewest slices of the sample on which the instance appears; less is rejected."""


class FewRecipe(Recipe):
    """Seed model ``few``: k of a few, slices drawn without repetition, central ones favoured."""

    limits: tuple[PositiveInt, PositiveInt] = (1, 3)
    """Fewest and most slices kept. An instance on fewer slices than the most has k drawn among those possible; one on
    fewer than the fewest is rejected."""
    mean: float = 1.0
    """Mean of the normal density that weighs k."""
    std: PositiveFloat = 1.0
    """Standard deviation of that density (published: 3/3)."""
    slice_std: PositiveFloat = 1 / 6
    """Standard deviation of the normal density that weighs slices around the middle, as a share of their number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.limits[0] > self.limits[1]:
            raise ValueError(f"limits must be (fewest, most), got {self.limits}")
        if (self.limits[1] - self.mean) / self.std > 5 or (self.mean - self.limits[0]) / self.std > 5:
            raise ValueError(
                f"limits {self.limits} lie beyond 5 standard deviations of mean {self.mean}, std {self.std}"
            )
        if self.slice_std < 0.1:
            raise ValueError(f"slice_std must be at least 0.1, or outer slices are never drawn, got {self.slice_std}")
        return self


class SpreadRecipe(Recipe):
    """Seed model ``spread``: an exponential number of normally distributed draws, the distinct ones kept."""

    mean: PositiveFloat = 1.0
    """Mean of the exponential number of draws, as a share of the slices (cut at all but one, and at least one)."""
    centre: Share = 0.5
    """Mean of the drawn position, as a share of the slices."""
    std: PositiveFloat = 0.25
    """Standard deviation of the drawn position, as a share of the slices."""


class SeedRecipe(Recipe):
    """Which slices of the target are kept as seed. Both models are laid over the slices on which the instance is."""

    model: Literal["few", "spread"] = "few"
    """The published model."""
    few: FewRecipe = FewRecipe()
    """Constants of ``few``."""
    spread: SpreadRecipe = SpreadRecipe()
    """Constants of ``spread``."""


class OutlineErrorRecipe(Recipe):
    """Errors as a hurried hand makes them, on the seed slices alone; off by default. Lengths in sample voxels."""

    probability: Share = 0.0
    """Probability that a kept slice gets errors at all."""
    shift_vx: Annotated[int, Field(ge=0, le=64)] = 2
    """Largest shift along either axis of the slice."""
    radius_vx: Annotated[int, Field(ge=0, le=16)] = 1
    """Largest radius of a dilation or an erosion by a disc."""
    missing_probability: Share = 0.25
    """Probability that a slice with errors lacks a part on one side."""
    missing_share: tuple[Share, Share] = (0.05, 0.3)
    """Limits of the share of the outlined voxels that is lacking."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.missing_share[0] > self.missing_share[1]:
            raise ValueError(f"missing_share must be (low, high) with low <= high, got {self.missing_share}")
        return self


class InstanceRecipe(Recipe):
    """A sample around an instance: the image, the instance's mask, and the mask on a few slices.

    Sizes are (x, y, z); arrays of a sample are (z, y, x).
    """

    crop_vx: SizeVx | None = PUBLISHED_CROP_VX
    """Size of the crop in target voxels; none where ``crop_nm`` is given."""
    crop_nm: SizeNm | None = None
    """Size of the crop in nm, rounded to whole voxels of the sample; instead of ``crop_vx``."""
    voxel_size_nm: SizeNm | None = None
    """Voxel size of the sample; none takes the source layer's, so that its voxels are kept as they are."""
    target_downsampling: Literal["majority", "any"] = "majority"
    """How the mask gets to a grid coarser than the target's. ``majority``: a voxel is set if more than half of the
    target's voxels in it are; of an instance that this would lose, the fullest voxels are, as many as its volume takes.
    ``any``: it is set if any of them is, which keeps all that is thin and makes clefts about twice too large."""
    source_padding: Annotated[int, Field(ge=0, le=255)] = 148
    """Grey value beyond the source's bounds. Beyond the target's bounds there is background, 0."""
    source_window: tuple[float, float] | None = None
    """Values of the source that become 0 and 255; required where its voxels are not ``uint8``."""
    source_sparse: bool = False
    """Declares that absent chunks of the source layer are 0."""
    target_sparse: bool = False
    """Declares that absent chunks of the target layer are background."""
    on_chunk_error: Literal["fail", "reject"] = "fail"
    """What a chunk that is missing, forbidden or unreadable does to the samples that need it: they fail, and are tried
    again by the next run, or are rejected with the reason. They are never filled with zeros."""
    choice: ChoiceRecipe = ChoiceRecipe()
    """Which object is the instance."""
    slice_axis: Literal["x", "y", "z"] = "z"
    """Axis along which slices are counted."""
    scenarios: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Samples per instance, which differ in their seed alone."""
    seeds: SeedRecipe = SeedRecipe()
    """Which slices are kept."""
    outline_error: OutlineErrorRecipe = OutlineErrorRecipe()
    """Errors of the outlines on these slices."""

    @model_validator(mode="before")
    @classmethod
    def _crop_nm_replaces_the_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("crop_nm") is not None and "crop_vx" not in values:
            return values | {"crop_vx": None}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.crop_vx is None) == (self.crop_nm is None):
            raise ValueError(f"give either crop_vx or crop_nm, got {self.crop_vx} and {self.crop_nm}")
        if self.crop_vx is not None and self.crop_vx[0] * self.crop_vx[1] * self.crop_vx[2] > _MAX_VOXELS:
            raise ValueError(f"crop_vx must hold at most {_MAX_VOXELS:,} voxels, got {self.crop_vx}")
        if self.source_window is not None and self.source_window[0] >= self.source_window[1]:
            raise ValueError(f"source_window must be (low, high) with low < high, got {self.source_window}")
        return self
