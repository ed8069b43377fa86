"""Every constant of the randomized synthesis, as named, documented, validated fields. Defaults are the published ones.

Method: "Learning General-Purpose Biomedical Volume Representations using Randomized Synthesis", ICLR 2025. The artifact
steps are those of MONAI under the same names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from voxmint.recipe import Recipe

MAX_LABEL = 255
"""Largest label that a ``uint8`` label volume holds."""
CUBIC = (1.0, 1.0, 1.0)
"""Voxel size of volumes that say nothing of it."""
_MOST_ELONGATED = 16


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"limits must be (low, high) with low <= high, got {limits}")
    return limits


Limits = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveLimits = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
NonNegativeLimits = Annotated[
    tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_ordered)
]
IntegerLimits = Annotated[tuple[int, int], AfterValidator(_ordered)]
Probability = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=16, le=1024)]
Axis = Annotated[int, Field(ge=0, le=2)]
SliceThickness = Annotated[float, Field(ge=1, le=64)]


class ForegroundRecipe(Recipe):
    """The foreground mask and its envelope. Lengths are voxels of a 128-sided volume.

    The shift of an axis scales with its own side over 128, all other lengths with the mean side over 128.
    """

    probability: Probability = 2 / 3
    """Share of ensembles that get a foreground mask."""
    radius: IntegerLimits = (48, 72)
    """Radius of the ball, integer, upper limit exclusive."""
    shift: IntegerLimits = (-32, 32)
    """Shift of the ball's centre per axis, integer, upper limit exclusive."""
    noise_spacing: tuple[PositiveFloat, ...] = Field(default=(8, 16, 32), min_length=1)
    """Grid spacings of the displacement noise."""
    noise_std: NonNegativeLimits = (1, 5)
    """Limits of the displacement's standard deviation, drawn once a scale."""
    envelope_probability: Probability = 0.5
    """Share of masked ensembles that get an envelope."""
    envelope_radius: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(2, 3, 4), min_length=1)
    """Candidate radii of the envelope, in voxels at any side."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("radius", "shift"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name}: the upper limit is exclusive and must exceed the lower, got {(low, high)}")
        if self.radius[0] < 1:
            raise ValueError(f"radius must be at least 1, got {self.radius}")
        return self


class EnsembleRecipe(Recipe):
    """A label ensemble: how many templates, how they are moved, and what masks them.

    Examples
    --------
    >>> import voxmint as vm
    >>> recipe = vm.EnsembleRecipe(shape=(64, 64, 32), max_templates=30)
    >>> recipe.min_templates, recipe.shape
    (20, (64, 64, 32))
    """

    later: ClassVar[frozenset[str]] = frozenset({"shape", "voxel_size"})
    side: Size | None = 128
    """Side S of a cubic volume, voxels; null for another shape."""
    shape: tuple[Size, Size, Size] | None = None
    """Sides (i, j, k) of a volume that is no cube, voxels, instead of ``side``; N,N,N is the same as side N."""
    voxel_size: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = CUBIC
    """Size of a voxel along (i, j, k), mm, stated in NIfTI files. Where it differs from axis to axis, templates do not
    follow the voxels: along an axis of twice the voxel size they are half as many voxels long."""
    min_templates: PositiveInt = 20
    """Fewest templates in an ensemble."""
    max_templates: PositiveInt = 40
    """Upper limit of the number of templates, exclusive: the default draws 20 to 39."""
    scale: PositiveLimits = (0.5, 1.5)
    """Limits of the scale per axis (output to input)."""
    mirror_probability: Probability = 0.5
    """Probability that an axis is mirrored."""
    rotation: Limits = (-180, 180)
    """Limits of the rotation about each axis, degrees."""
    shear: Limits = (-0.5, 0.5)
    """Limits of the three upper-triangular shears."""
    translation: Limits = (-5, 5)
    """Limits of the translation per axis, voxels."""
    foreground: ForegroundRecipe = ForegroundRecipe()
    """Foreground mask and envelope."""

    @property
    def volume(self) -> tuple[int, int, int]:
        """Shape of a label volume, voxels (i, j, k)."""
        if self.shape is not None:
            return self.shape
        assert self.side is not None
        return (self.side, self.side, self.side)

    @model_validator(mode="before")
    @classmethod
    def _one_shape(cls, values: Any) -> Any:
        """Keep either ``side`` or ``shape``, so that equal volumes have equal recipes."""
        if not isinstance(values, dict):
            return values
        side, shape = values.get("side"), values.get("shape")
        if shape is None:
            if "side" in values and side is None:
                raise ValueError("a volume needs a size: --side N, or --shape I,J,K")
            return values
        if not isinstance(shape, (list, tuple)) or len(shape) != 3:
            return values
        if side is not None and any(str(size) != str(side) for size in shape):
            raise ValueError(f"--side {side} and --shape {','.join(map(str, shape))} contradict each other: give one")
        if shape[0] == shape[1] == shape[2]:
            return values | {"side": shape[0], "shape": None}
        return values | {"side": None}

    @model_validator(mode="after")
    def _check_voxels(self) -> Self:
        if max(self.voxel_size) > _MOST_ELONGATED * min(self.voxel_size):
            raise ValueError(f"a voxel may be at most {_MOST_ELONGATED} times as long along one axis as along another, "
                             f"got voxel_size {self.voxel_size}")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        if self.max_templates <= self.min_templates:
            raise ValueError(
                "max_templates is exclusive and must exceed min_templates, "
                f"got {self.min_templates} and {self.max_templates}"
            )
        most = self.max_templates - 1
        if most + 1 > MAX_LABEL:
            raise ValueError(
                f"{most} templates need labels up to {most + 1} (foreground and envelope included), but a label "
                f"volume is uint8 and holds up to {MAX_LABEL}: max_templates must be at most {MAX_LABEL}, "
                f"got {self.max_templates}"
            )
        if self.scale[1] > 8 or max(map(abs, self.shear)) > 4:
            raise ValueError("scale limits above 8 or shears beyond 4 are not supported")
        return self


class ArtifactRecipe(Recipe):
    """Acquisition artifacts, in the order they are applied, each with its own probability."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"low_resolution_per_axis", "thick_slices_probability", "thick_slices_thickness", "thick_slices_axes"}
    )
    bias_field_probability: Probability = 0.98
    """Probability of a multiplicative bias field, exp of a Legendre polynomial."""
    bias_field_coefficients: Limits = (0.0, 0.075)
    """Limits of each Legendre coefficient."""
    bias_field_degree: Annotated[int, Field(ge=1, le=6)] = 3
    """Degree of the Legendre polynomial."""
    kspace_spike_probability: Probability = 0.2
    """Probability of one spike in k-space."""
    kspace_spike_intensity: PositiveLimits = (0.95, 1.1)
    """Limits of the spike's log-magnitude, relative to 2.5 times the mean log-magnitude of k-space."""
    gamma_probability: Probability = 0.5
    """Probability of a gamma correction."""
    gamma: PositiveLimits = (0.5, 2.0)
    """Limits of gamma."""
    smoothing_probability: Probability = 0.5
    """Probability of Gaussian smoothing."""
    smoothing_sigma: NonNegativeLimits = (0.0, 0.333)
    """Limits of the smoothing's standard deviation per axis, voxels."""
    gibbs_probability: Probability = 0.5
    """Probability of Gibbs ringing."""
    gibbs_alpha: Annotated[tuple[Probability, Probability], AfterValidator(_ordered)] = (0.0, 0.333)
    """Limits of alpha: 0 keeps all of k-space, 1 keeps none."""
    sharpening_probability: Probability = 0.25
    """Probability of unsharp masking."""
    sharpening_sigma1: PositiveLimits = (0.5, 1.0)
    """Limits of the first blur's standard deviation per axis, voxels."""
    sharpening_sigma2: PositiveFloat = 0.5
    """Lower limit of the second blur's standard deviation, voxels; the upper one is the first blur's drawn value."""
    sharpening_alpha: NonNegativeLimits = (10.0, 30.0)
    """Limits of the weight of the sharpened detail."""
    low_resolution_probability: Probability = 0.333
    """Probability of simulated low resolution."""
    low_resolution_zoom: PositiveLimits = (0.5, 1.0)
    """Limits of the zoom: down by nearest neighbour, up trilinearly."""
    low_resolution_per_axis: bool = False
    """Draw a zoom for each axis, instead of one for all."""
    thick_slices_probability: Probability = 0.0
    """Probability of an acquisition in thick slices: averaged along one axis, then interpolated back."""
    thick_slices_thickness: tuple[SliceThickness, SliceThickness] = (2.0, 6.0)
    """Limits of the thickness of a slice, which is also the distance of their middles, voxels."""
    thick_slices_axes: tuple[Axis, ...] = Field(default=(0, 1, 2), min_length=1)
    """Axes of which one is drawn as the one through the slices; a single one is the one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ordered(self.thick_slices_thickness)
        if self.low_resolution_zoom[1] > 1:
            raise ValueError(f"low_resolution_zoom must not exceed 1, got {self.low_resolution_zoom}")
        return self


class ViewRecipe(Recipe):
    """How a label volume is rendered into one image: intensities, texture, artifacts.

    Examples
    --------
    >>> import voxmint as vm
    >>> vm.ViewRecipe(mean=(50, 200)).artifacts.gamma
    (0.5, 2.0)
    """

    mean: NonNegativeLimits = (25, 255)
    """Limits of a label's mean intensity."""
    std: NonNegativeLimits = (5, 20)
    """Limits of a label's standard deviation."""
    empty_background_probability: Probability = 0.25
    """Probability that the lowest label present stays 0."""
    texture_spacing: tuple[PositiveFloat, ...] = (4, 8, 16, 32)
    """Grid spacings of the multiplicative texture, voxels at any side."""
    texture_std: NonNegativeLimits = (0, 5)
    """Limits of the texture's standard deviation, drawn once a scale."""
    texture_strength: Annotated[float, Field(ge=0)] = 0.02
    """Factor of the texture: the image is multiplied by 1 + strength * texture."""
    artifacts: ArtifactRecipe = ArtifactRecipe()
    """Acquisition artifacts."""


class PairRecipe(EnsembleRecipe):
    """A pair: one label ensemble, and two views drawn independently from the same `ViewRecipe`.

    Examples
    --------
    >>> import voxmint as vm
    >>> vm.PairRecipe(side=64, view={"std": (2, 8)}).view.std
    (2.0, 8.0)
    """

    view: ViewRecipe = ViewRecipe()
    """Both views."""
