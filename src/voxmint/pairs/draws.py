"""Draw every parameter of a pair before anything is computed: a JSON-able record that replays the sample."""

from __future__ import annotations

from collections.abc import Sequence

from voxmint.pairs.recipe import ArtifactRecipe, EnsembleRecipe, ForegroundRecipe, ViewRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON

Shape = Sequence[int]
"""Voxels along (i, j, k)."""
PUBLISHED_SIDE = 128
"""The side in which the foreground's lengths are stated."""


def draw_ensemble(stream: Stream, recipe: EnsembleRecipe, bank_size: int) -> JSON:
    """Draw templates with their affine maps, and the foreground.

    Returns
    -------
    dict
        ``templates``: a list, one entry a label, of ``label``, ``template`` (index in the bank), ``scale``, ``mirror``,
        ``rotation`` (degrees), ``shear`` (ij, ik, jk), ``translation`` (voxels); ``foreground``: None or a dict, see
        `draw_foreground`. Where the voxel size differs from axis to axis also ``spacing``: that of each axis over the
        least.
    """
    count = stream.integer(recipe.min_templates, recipe.max_templates)
    templates = [
        {
            "label": label,
            "template": stream.integer(0, bank_size),
            "scale": [stream.uniform(*recipe.scale) for _ in range(3)],
            "mirror": [stream.chance(recipe.mirror_probability) for _ in range(3)],
            "rotation": [stream.uniform(*recipe.rotation) for _ in range(3)],
            "shear": [stream.uniform(*recipe.shear) for _ in range(3)],
            "translation": [stream.uniform(*recipe.translation) for _ in range(3)],
        }
        for label in range(count)
    ]
    foreground = None
    if stream.chance(recipe.foreground.probability):
        foreground = draw_foreground(stream, recipe.foreground, recipe.volume)
    drawn: JSON = {"templates": templates, "foreground": foreground}
    least = min(recipe.voxel_size)
    if max(recipe.voxel_size) > least:
        drawn["spacing"] = [size / least for size in recipe.voxel_size]
    return drawn


def draw_foreground(stream: Stream, recipe: ForegroundRecipe, shape: Shape) -> JSON:
    """Draw the foreground's ball, displacement noise and envelope, in voxels of a volume of this shape.

    The centre's shift scales with the side of its axis; radius, spacing and displacement with the mean side. So the
    ball keeps the share of the volume that it has in a cube, also where it is cut by a thin one.

    Returns
    -------
    dict
        ``radius`` (int), ``centre`` (three ints, voxels), ``displacement``: a list, one entry a scale, of ``spacing``,
        ``std`` (voxels) and ``key`` (of the noise grid of shape (3, I, J, K)); ``envelope``: None or a radius.
    """
    ratio = sum(shape) / len(shape) / PUBLISHED_SIDE
    radius = max(1, stream.integer(*_scaled(recipe.radius, ratio)))
    centre = [side // 2 + stream.integer(*_scaled(recipe.shift, side / PUBLISHED_SIDE)) for side in shape]
    displacement = [
        {
            "spacing": spacing * ratio,
            "std": round(stream.uniform(*recipe.noise_std) * ratio, 6),
            "key": draw_key(stream),
        }
        for spacing in recipe.noise_spacing
    ]
    envelope = stream.choice(recipe.envelope_radius) if stream.chance(recipe.envelope_probability) else None
    return {"radius": radius, "centre": centre, "displacement": displacement, "envelope": envelope}


def draw_view(stream: Stream, recipe: ViewRecipe, labels: Sequence[int], shape: Shape) -> JSON:
    """Draw how the labels present in an ensemble of this shape are rendered.

    Returns
    -------
    dict
        ``intensity``: ``labels``, ``mean`` and ``std`` (one a label, in order), ``empty_background``, ``key`` of the
        voxel noise; ``texture``: a list, one entry a scale, of ``spacing``, ``std``, ``key``; ``artifacts``: see
        `draw_artifacts`.
    """
    mean = [stream.uniform(*recipe.mean) for _ in labels]
    std = [stream.uniform(*recipe.std) for _ in labels]
    empty = stream.chance(recipe.empty_background_probability)
    intensity = {
        "labels": [int(label) for label in labels],
        "mean": mean,
        "std": std,
        "empty_background": empty,
        "key": draw_key(stream),
    }
    texture = [
        {"spacing": spacing, "std": stream.uniform(*recipe.texture_std), "key": draw_key(stream)}
        for spacing in recipe.texture_spacing
    ]
    return {"intensity": intensity, "texture": texture, "artifacts": draw_artifacts(stream, recipe.artifacts, shape)}


def draw_artifacts(stream: Stream, recipe: ArtifactRecipe, shape: Shape) -> JSON:
    """Draw the artifacts; a step that is not drawn is None.

    Returns
    -------
    dict
        ``bias_field``: Legendre coefficients, in the order of `legendre_terms`; ``kspace_spike``: ``location`` (index
        into the shifted k-space) and ``intensity`` (log-magnitude over 2.5 times its mean); ``gamma``: exponent;
        ``smoothing``: sigma per axis, voxels; ``gibbs``: alpha; ``sharpening``: ``sigma1``, ``sigma2`` per axis and
        ``alpha``; ``low_resolution``: zoom, or one for each axis; ``thick_slices``, if the recipe has any: ``axis`` and
        ``thickness`` (voxels).
    """
    drawn: JSON = dict.fromkeys(
        ("bias_field", "kspace_spike", "gamma", "smoothing", "gibbs", "sharpening", "low_resolution")
    )
    if stream.chance(recipe.bias_field_probability):
        terms = legendre_terms(recipe.bias_field_degree)
        drawn["bias_field"] = [stream.uniform(*recipe.bias_field_coefficients) for _ in terms]
    if stream.chance(recipe.kspace_spike_probability):
        location = [stream.integer(0, size) for size in shape]
        drawn["kspace_spike"] = {"location": location, "intensity": stream.uniform(*recipe.kspace_spike_intensity)}
    if stream.chance(recipe.gamma_probability):
        drawn["gamma"] = stream.uniform(*recipe.gamma)
    if stream.chance(recipe.smoothing_probability):
        drawn["smoothing"] = [stream.uniform(*recipe.smoothing_sigma) for _ in range(3)]
    if stream.chance(recipe.gibbs_probability):
        drawn["gibbs"] = stream.uniform(*recipe.gibbs_alpha)
    if stream.chance(recipe.sharpening_probability):
        sigma1 = [stream.uniform(*recipe.sharpening_sigma1) for _ in range(3)]
        sigma2 = [stream.uniform(recipe.sharpening_sigma2, sigma) for sigma in sigma1]
        drawn["sharpening"] = {"sigma1": sigma1, "sigma2": sigma2, "alpha": stream.uniform(*recipe.sharpening_alpha)}
    if stream.chance(recipe.low_resolution_probability):
        zooms = [stream.uniform(*recipe.low_resolution_zoom) for _ in range(3 if recipe.low_resolution_per_axis else 1)]
        drawn["low_resolution"] = zooms if recipe.low_resolution_per_axis else zooms[0]
    if recipe.thick_slices_probability > 0:  # drawn last: recipes without it draw what they drew before it was known
        drawn["thick_slices"] = None
        if stream.chance(recipe.thick_slices_probability):
            axis, thickness = stream.choice(recipe.thick_slices_axes), stream.uniform(*recipe.thick_slices_thickness)
            drawn["thick_slices"] = {"axis": axis, "thickness": thickness}
    return drawn


def legendre_terms(degree: int) -> list[tuple[int, int, int]]:
    """Return (a, b, c) with a + b + c <= degree, c fastest: the order of the bias field's coefficients."""
    return [(a, b, c) for a in range(degree + 1) for b in range(degree + 1 - a) for c in range(degree + 1 - a - b)]


def draw_key(stream: Stream) -> str:
    """Draw the key of a noise field: 64 bits as 16 hexadecimal digits, which JSON holds without loss."""
    return f"{stream.word():016x}"


def ensemble_kind(parameters: JSON) -> str:
    """Return the published name of an ensemble's kind from its drawn parameters."""
    foreground = parameters["foreground"]
    if foreground is None:
        return "unconstrained"
    return "foreground_masked" if foreground["envelope"] is None else "foreground_masked_enveloped"


def _scaled(limits: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Scale integer limits [low, high) to another side, keeping at least one value."""
    low, high = round(limits[0] * ratio), round(limits[1] * ratio)
    return low, max(high, low + 1)
