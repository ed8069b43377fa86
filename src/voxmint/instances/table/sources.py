"""Tables that are no files: fetched into files of a temporary folder first, in a fixed order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from voxmint.instances.table.fetched import ANNOTATIONS, Fetched
from voxmint.retry import PATIENCE_S

CAVE = "cave://"
_REMOTE = ("gs://", "s3://", "http://", "https://", "precomputed://")
_INFO_BYTES = 1 << 20


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
