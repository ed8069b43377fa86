"""Short flags of `voxmint instances` as the recipes that they mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from voxmint.errors import RecipeError
from voxmint.instances.recipe import InstanceRecipe

_FLAGS = {"crop_vx": "--crop", "shares": "--split", "SplitRecipe": "--split", "SamplingRecipe": "--stratify-by"}


@contextmanager
def named_by_flags() -> Iterator[None]:
    """Name the flag, not the field, in what a recipe says of values that flags gave."""
    try:
        yield
    except RecipeError as error:
        field = str(error.where or "").partition(".")[0]
        if field and not field.startswith("-"):
            error.where = _FLAGS.get(field, f"--{field.replace('_', '-')}")
        raise


def with_flags(
    recipe: InstanceRecipe, crop: str | None, crop_nm: str | None, seeds: str | None, scenarios: int | None
) -> InstanceRecipe:
    """Return the recipe with the short flags over it."""
    from voxmint.make.instances import crop_of

    values = recipe.model_dump(mode="json", exclude_unset=True)
    if crop is not None and crop_nm is not None:
        raise RecipeError("two sizes of the crop", where="--crop, --crop-nm", remedy="give one of them")
    if crop is not None:
        size = crop_of(crop, "--crop")
        if any(n != int(n) for n in size):
            raise RecipeError("voxels are whole", where="--crop", got=crop, remedy="use --crop-nm for lengths")
        values |= {"crop_vx": [int(n) for n in size], "crop_nm": None}
    if crop_nm is not None:
        values |= {"crop_nm": list(crop_of(crop_nm, "--crop-nm")), "crop_vx": None}
    if seeds is not None:
        values["seeds"] = {**values.get("seeds", {}), "model": seeds}
    if scenarios is not None:
        values["scenarios"] = scenarios
    with named_by_flags():
        return InstanceRecipe.from_dict(values)


def sampling_of(count: int | None, method: str, column: str | None, box_nm: str | None, ids: str | None) -> Any:
    """Return which rows are drawn, and how."""
    from voxmint.instances.draw.sampling import SamplingRecipe
    from voxmint.make.instances import crop_of

    values: dict[str, Any] = {"count": count, "method": "stratified" if column else method, "stratify_by": column}
    if box_nm is not None:
        parts = box_nm.split(",")
        if len(parts) != 6:
            raise RecipeError("not six numbers", where="--box-nm", expected="x0,y0,z0,x1,y1,z1 in nm", got=box_nm)
        values["box_nm"] = [crop_of(",".join(half), "--box-nm") for half in (parts[:3], parts[3:])]
    if ids is not None:
        try:
            values["ids"] = [int(part) for part in ids.split(",")]
        except ValueError:
            raise RecipeError("not whole numbers", where="--ids", got=ids) from None
    with named_by_flags():
        return SamplingRecipe.from_dict(values)


def split_of(text: str | None, separate: str) -> Any:
    """Return the splits, None where there are to be none."""
    from voxmint.instances.draw.splits import SplitRecipe

    if text is None:
        return None
    try:
        shares = {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise RecipeError("not names with shares", where="--split", expected="train=0.8,validation=0.2",
                          got=text) from None  # fmt: skip
    with named_by_flags():
        return SplitRecipe.from_dict({"shares": shares, "separate": separate})
