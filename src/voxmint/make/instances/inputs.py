"""Where instances come from: two layers and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxmint.errors import LayerError, RecipeError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable
from voxmint.retry import PATIENCE_S
from voxmint.sample import JSON
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_layer

_FLAGS = {"voxel_size_nm": "--{}-voxel-size", "mip": "--{}-mip", "scale_nm": "--{}-scale-nm", "axes": "--{}-axes",
          "offset": "--{}-offset", "dataset": "--{}-dataset", "reader": "--reader"}  # fmt: skip
"""Of the arguments of `voxmint.volumes.opening.open_layer` that an error may be about."""


@dataclass(frozen=True)
class Inputs:
    """Where instances come from.

    Attributes
    ----------
    source, target : str
        Addresses of the image and of the segmentation.
    table : path, glob, sequence of paths, or address
        Materialization table; see `voxmint.instances.table.table.InstanceTable`.
    columns : ColumnMap
        Its columns and the unit of its coordinates.
    reader : {"auto", "tensorstore", "cloudvolume"}
        What reads the layers.
    secrets : path, optional
        JSON file with credentials for the layers.
    options : dict
        More arguments of `voxmint.volumes.opening.open_layer`, for ``source`` and ``target``.
    shared : path, optional
        Folder as `shared_chunks` gives it.
    patience : float
        As for `voxmint.volumes.opening.open_layer`.
    """

    source: str = field(repr=False)  # may hold a password or a signature
    target: str = field(repr=False)
    table: str | Path | Sequence[str | Path]
    columns: ColumnMap
    reader: str = "auto"
    secrets: Path | None = None
    options: dict[str, JSON] | None = None
    shared: Path | None = None
    patience: float = PATIENCE_S

    def layers(self, recipe: InstanceRecipe) -> tuple[Layer, Layer]:
        """Open source and target."""
        sparse = {"source": recipe.source_sparse, "target": recipe.target_sparse}
        opened = []
        for name, address in (("source", self.source), ("target", self.target)):
            more = {"patience": self.patience, **(self.options or {}).get(name, {})}
            if self.shared is not None:
                more["shared"] = self.shared / name
            try:
                layer = open_layer(address, reader=self.reader, secrets=self.secrets, sparse=sparse[name], **more)  # type: ignore[arg-type]
            except LayerError as error:
                if flag := _FLAGS.get(error.argument):
                    error.remedy = f"{error.remedy} ({flag.format(name)})"
                raise
            opened.append(layer)
        return opened[0], opened[1]

    def instances(self) -> InstanceTable:
        """Open the table."""
        return InstanceTable(self.table, self.columns, secrets=self.secrets, patience=self.patience)


def crop_of(text: str, name: str) -> tuple[float, float, float]:
    """Read three numbers separated by commas, as on the command line."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError("not three numbers", where=name, expected="x,y,z such as 8,8,33", got=text) from None
    if not np.isfinite([x, y, z]).all():
        raise RecipeError("not three finite numbers", where=name, got=text)
    return x, y, z
