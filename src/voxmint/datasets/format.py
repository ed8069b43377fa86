"""The seam between samples and files: what every data set format does, and where a data set is put."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import PlanError, RecipeError
from voxmint.sample import JSON, Layout, Sample
from voxmint.stores.place import Place
from voxmint.stores.secrets import public_url

FORMATS = {
    "hdf5": "voxmint.datasets.hdf5:Hdf5Format",
    "nifti": "voxmint.datasets.nifti:NiftiFormat",
    "bank": "voxmint.datasets.bank:BankFormat",
    "npy": "voxmint.datasets.npy:NpyFormat",
}
"""Formats by name. A data set on disk names its format, and only these are ever loaded for it: no code from data."""

AXES = ("zyx", "xyz")
"""Orders of the axes in files: that of samples (z, y, x), which is the default, or the other way round."""


@dataclass(frozen=True)
class Output:
    """Where a data set is put, and how large it is.

    Attributes
    ----------
    directory : Path
        The folder of recipe, records and state: that of the data set, or, where its place is a bucket, one of this
        machine that belongs to the bucket's address.
    count : int
        Number of samples.
    layout : mapping
        Shape and dtype of each array, empty when they differ from sample to sample.
    note : str
        Text that explains the data set (its ``recipe.yaml``), for formats that can carry it inside.
    url : str, optional
        Where the arrays go if not into the directory.
    secrets : str, optional
        JSON file of credentials for that place. Told to worker processes, never recorded.
    """

    directory: Path
    count: int
    layout: Layout
    note: str = ""
    url: str | None = None
    secrets: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, out: str | Path, secrets: str | Path | None = None) -> Self:
        """Return the output at an address as a user gives it, of which nothing else is known yet."""
        try:
            str(out).encode()
        except UnicodeEncodeError:
            raise PlanError("the path is not of UTF-8, and so cannot be recorded", where=repr(str(out)),
                            remedy="choose another directory for --out") from None  # fmt: skip
        place = Place(out, secrets=secrets)
        return cls(
            place.home,
            0,
            {},
            url=None if place.is_local else str(out),
            secrets=None if secrets is None else str(secrets),
        )

    @property
    def place(self) -> Place:
        """The folder or bucket of the arrays."""
        return _open_place(self.url or str(self.directory), self.secrets, os.getpid())

    @property
    def where(self) -> str | Path:
        """The address to be shown."""
        return self.directory if self.url is None else public_url(self.url).rstrip("/")

    @property
    def state(self) -> Path:
        """The folder of what only an unfinished run needs."""
        return self.directory / ".voxmint"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's arrays, 0 when they differ from sample to sample."""
        return sum(array_bytes(shape, dtype) for shape, dtype in self.layout.values())

    def spec(self) -> JSON:
        """Return JSON for a worker process; not to be recorded."""
        layout = {name: [list(shape), dtype] for name, (shape, dtype) in self.layout.items()}
        return {"directory": str(self.directory), "count": self.count, "layout": layout, "url": self.url,
                "secrets": self.secrets}  # fmt: skip

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        layout = {name: (tuple(shape), dtype) for name, (shape, dtype) in spec["layout"].items()}
        return cls(Path(spec["directory"]), spec["count"], layout, "", spec["url"], spec["secrets"])


class Format(Protocol):
    """How samples become files. An object holds options only; every method is told the output, in any process.

    `begin`, `sync` and `commit` are called by the one process that leads a run. `write` is called by its workers, at
    the same time, for different samples; writing a sample twice must leave the same bytes at the same place, since a
    worker that outlives its parent for a moment may do so.
    """

    name: ClassVar[str]
    """Name in `FORMATS`."""
    needs_key: ClassVar[bool]
    """Whether reading a sample takes its key, not its index alone."""

    def spec(self) -> JSON:
        """Return ``{"name": ..., **options}`` from which `format_from_spec` builds an equal format."""
        ...

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        ...

    def check(self, output: Output) -> None:
        """Raise `PlanError` if this format cannot store such samples there."""
        ...

    def present(self, output: Output) -> Iterable[str]:
        """Return the names of files under final names that exist already."""
        ...

    def remaining_bytes(self, output: Output, done: int) -> int:
        """Return how many more bytes the disk needs to hold, for all samples but ``done`` of them.

        These are stored already, or left to another run.
        """
        ...

    def begin(self, output: Output) -> None:
        """Prepare for writing; called again when a run is resumed, and when a finished data set is to be repaired.

        Of a finished one as much is kept as `write` can put the missing samples to.
        """
        ...

    def write(self, output: Output, sample: Sample) -> list[JSON]:
        """Store a sample. Return manifest entries of the files that are whole now, if any."""
        ...

    def stored(self, output: Output, files: list[JSON]) -> bool:
        """Tell whether a sample for which `write` returned ``files`` is still there; False if some are left out."""
        ...

    def sync(self, output: Output) -> None:
        """Make everything written so far survive a power loss."""
        ...

    def commit(self, output: Output) -> list[JSON]:
        """Let everything appear under its final name; safe to repeat. Return manifest entries of these files."""
        ...

    def cleanup(self, output: Output) -> None:
        """Remove what only the unfinished run needed; called when all else is in place."""
        ...

    def entry(self, output: Output, file: JSON) -> JSON:
        """Recompute a manifest entry from the file as it is now."""
        ...

    def files(self, output: Output, index: int, key: str) -> dict[str, list[str]]:
        """Return for each array the names of the file or files it is in."""
        ...

    def read(self, output: Output, index: int, key: str) -> dict[str, NDArray[Any]] | None:
        """Return a sample's arrays as stored; None when the format keeps no single samples."""
        ...


@runtime_checkable
class Reserving(Protocol):
    """A format that keeps a place for every index, before it is known which have a sample."""

    def give_up(self, output: Output, rejected: Sequence[int]) -> None:
        """Remove the places of these indices (ascending); called before `Format.commit`, safe to repeat."""
        ...

    def set_aside(self, output: Output) -> None:
        """Make room for files of another number of samples; `Format.begin` brings over what was in these."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A format whose unfinished files carry the text that explains the data set."""

    def renote(self, output: Output) -> None:
        """Let the next `Format.begin` put the text of ``output`` in place of another one.

        Raises
        ------
        PlanError
            The files have no room for it where what they hold stays.
        """
        ...


def format_from_spec(spec: object) -> Format:
    """Build the format that ``spec`` describes.

    Raises
    ------
    RecipeError
        It names no known format or has unknown options.
    """
    name = spec.get("name") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or name not in FORMATS:
        raise RecipeError("unknown data set format", expected=f"one of: {', '.join(FORMATS)}", got=repr(name))
    module, _, cls = FORMATS[name].partition(":")
    try:
        return cast(Format, getattr(importlib.import_module(module), cls).from_spec(spec))
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"wrong options of the format {name}: {error}", got=str(spec)) from error


def checked_axes(axes: str) -> str:
    """Return the order of the axes in files, if it is one."""
    if axes not in AXES:
        raise RecipeError("unknown order of axes", where="--array-axes, ARRAY_AXES", expected=" or ".join(AXES),
                          got=repr(axes), remedy="give one of these")  # fmt: skip
    return axes


def array_bytes(shape: Iterable[int], dtype: str) -> int:
    """Return the number of bytes of an array."""
    size = np.dtype(dtype).itemsize
    for length in shape:
        size *= length
    return size


def array_layout(arrays: JSON) -> Layout:
    """Return the layout that a recipe records as ``arrays``."""
    return {name: (tuple(array["shape"]), array["dtype"]) for name, array in arrays.items()}


@lru_cache(maxsize=8)
def _open_place(url: str, secrets: str | None, process: int) -> Place:  # noqa: ARG001 - clients do not survive a fork
    return Place(url, secrets=secrets)
