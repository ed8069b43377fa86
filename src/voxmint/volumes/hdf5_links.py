"""Datasets of an HDF5 file that lie in it: neither links nor storage may lead to other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxmint.errors import LayerError

_MOST_LINKS = 32


def own_dataset(file: Any, name: str, path: Path) -> Any:
    """Return what an open file holds under a name, None if there is nothing; nothing outside it is looked up.

    Raises
    ------
    LayerError
        A link on the way leads to another file or around in a circle, or the dataset's voxels lie in other files.
    """
    import h5py

    group, parts, left = file, [part for part in name.split("/") if part], _MOST_LINKS
    while parts:
        part = parts.pop(0)
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise _outside("a link of this file leads to another file", path, part)
        if isinstance(link, h5py.SoftLink):
            if not (left := left - 1):
                raise _outside("links of this file lead in a circle", path, part)
            group = file if link.path.startswith("/") else group
            parts = [step for step in link.path.split("/") if step not in ("", ".")] + parts
            continue
        group = group.get(part)
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        raise _outside("the voxels of this dataset lie in other files", path, name)
    return group


def _outside(what: str, path: Path, name: str) -> LayerError:
    return LayerError(what, where=path, got=name, expected="a dataset that lies in the file itself",
                      remedy="copy the dataset into one file, or open the other file")  # fmt: skip
