"""Tables that are no files: fetched into files of a temporary folder first, in a fixed order."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxmint.instances.table.columns import Preset
from voxmint.retry import PATIENCE_S
from voxmint.sample import JSON

ANNOTATIONS = "neuroglancer_annotations_v1"
CAVE = "cave://"
_REMOTE = ("gs://", "s3://", "http://", "https://", "precomputed://")
_INFO_BYTES = 1 << 20


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


def fetched(
    source: object, wanted: Iterable[str], secrets: str | Path | None = None, patience: float = PATIENCE_S
) -> Fetched | None:
    """Fetch a table that is no file, None if it is one.

    Parameters
    ----------
    source : str or Path
        ``cave://DATASTACK/TABLE?version=N``, or a folder or address of Neuroglancer's precomputed annotations.
    wanted : iterable of str
        Columns that are named; relationships of annotations are read only then, since that takes a request each.
    secrets : path, optional
        JSON file with credentials.
    patience : float
        Seconds for each object or page.

    Raises
    ------
    InputError
        It is not there, damaged, or cannot be read whole.
    MissingExtraError
        ``caveclient`` is not installed.
    """
    if not isinstance(source, str | Path):
        return None
    if str(source).startswith(CAVE):
        from voxmint.instances.table.cave import fetch_cave

        return fetch_cave(str(source), secrets, patience)
    if str(source).startswith(_REMOTE) or _is_annotations(source):
        from voxmint.instances.table.annotations import fetch_annotations

        return fetch_annotations(str(source), wanted, secrets, patience)
    return None


def _is_annotations(source: str | Path) -> bool:
    path = Path(str(source).removeprefix("file://")) / "info"
    try:
        if not path.is_file() or path.stat().st_size > _INFO_BYTES:
            return False
        info = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(info, dict) and info.get("@type") == ANNOTATIONS
