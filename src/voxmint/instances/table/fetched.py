"""A table that is no file, as it was fetched: files of a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxmint.instances.table.columns import Preset
from voxmint.sample import JSON

ANNOTATIONS = "neuroglancer_annotations_v1"
"""What the ``info`` of precomputed annotations calls itself."""


@dataclass(eq=False)
class Fetched:
    """A table that was fetched.

    Attributes
    ----------
    where : str
        Its address, without secrets.
    preset : str
        Which names its columns have.
    voxel_size_nm : three float, optional
        Size (x, y, z) of a unit of its coordinates, where it says so.
    about : dict
        JSON-able: what it was read from, recorded with the report.
    folder : Path
        Where its files are; gone with this object.
    parts : list of Path
        These files.
    """

    where: str
    preset: Preset
    voxel_size_nm: tuple[float, float, float] | None = None
    about: JSON = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="voxmint-table-")))
    parts: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, table: Any) -> None:
        """Add a part of an Arrow table's rows."""
        import pyarrow as pa

        path = self.folder / f"part-{len(self.parts):06}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        self.parts.append(path)
