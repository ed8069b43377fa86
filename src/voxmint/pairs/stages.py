"""Samplers of the later stages, which start from files: views of label volumes, and whole pairs from written stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from voxmint.errors import InputError
from voxmint.nifti.files import read_labels
from voxmint.pairs.naming import VIEW_NAMES
from voxmint.pairs.recipe import ViewRecipe
from voxmint.pairs.sampler import checked_index, make_views
from voxmint.sample import JSON, Sample, arrays_digest

_SUFFIXES = (".nii.gz", ".nii")


class ViewSampler:
    """Two views of each given label volume; the sample's key is the file's name.

    Each sample has ``img``, uint8 (2, I, J, K), axes (view, i, j, k).

    Parameters
    ----------
    files : sequence of path
        NIfTI label volumes with labels up to 255, any 3D shape.
    recipe : ViewRecipe
        How views are made.
    seed : int
        Seed of the data set; with an ensemble's name it decides its views.
    """

    arrays: ClassVar[tuple[str, ...]] = ("img",)

    def __init__(self, files: Sequence[str | Path], recipe: ViewRecipe | None = None, seed: int = 0) -> None:
        self.files, self.recipe, self.seed = [Path(file) for file in files], recipe or ViewRecipe(), int(seed)
        _check_names(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled

        path = self.files[checked_index(index, len(self))]
        ensure_compiled()
        labels = read_grey(path)
        images, drawn = make_views(labels, self.recipe, self.seed, file_key(path))
        record = {"labels": path.name, "labels_digest": arrays_digest({"seg": labels}), "views": drawn}
        return Sample(index, file_key(path), {"img": images}, record)

    def stream(self, indices: Iterable[int]) -> Iterator[Sample]:
        """Make many samples, in the order asked for."""
        return (self[index] for index in indices)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of ``img`` for the first file; the others may have other sizes."""
        return {"img": ((len(VIEW_NAMES), *read_grey(self.files[0]).shape), "uint8")}

    def definition(self) -> JSON:
        """Return generator, seed, input and recipe."""
        return {"generator": "pairs.views", "seed": self.seed, "labels": fingerprint(self.files),
                "recipe": self.recipe.to_dict()}  # fmt: skip

    def spec(self) -> JSON:
        """Return JSON for another process on this machine."""
        return {"type": f"{__name__}:ViewSampler", "files": [str(file) for file in self.files],
                "recipe": self.recipe.to_dict(), "seed": self.seed}  # fmt: skip

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned; compiles the kernels, or loads them compiled."""
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled

        ensure_compiled()
        return cls(spec["files"], ViewRecipe.from_dict(spec["recipe"]), spec["seed"])


class PackSampler:
    """Pairs read back from the files of the earlier stages.

    Each sample has ``img``, uint8 (2, I, J, K), and ``seg``, uint8 (I, J, K).

    Parameters
    ----------
    triples : sequence of (path, path, path)
        View 1, view 2 and label volume of each sample, all of one shape.
    """

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")

    def __init__(self, triples: Sequence[Sequence[str | Path]]) -> None:
        self.triples = [[Path(path) for path in triple] for triple in triples]
        if not self.triples:
            raise InputError("there is nothing to pack", expected="at least one label volume with its two views")
        self.shape = read_grey(self.triples[0][2]).shape

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, index: int) -> Sample:
        paths = self.triples[checked_index(index, len(self))]
        volumes = [read_grey(path) for path in paths]
        for path, volume in zip(paths, volumes, strict=True):
            if volume.shape != self.shape:
                raise InputError("a volume of another shape cannot go into the same data set", where=path,
                                 expected=self.shape, got=volume.shape, remedy="pack it on its own")  # fmt: skip
        arrays = {"img": np.stack(volumes[:2]), "seg": volumes[2]}
        return Sample(index, file_key(paths[2]), arrays, {"files": [path.name for path in paths]})

    def stream(self, indices: Iterable[int]) -> Iterator[Sample]:
        """Make many samples, in the order asked for."""
        return (self[index] for index in indices)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of each array: those of the first sample."""
        return {"img": ((2, *self.shape), "uint8"), "seg": (self.shape, "uint8")}

    def definition(self) -> JSON:
        """Return generator and input."""
        return {"generator": "pairs.pack", "files": fingerprint([path for triple in self.triples for path in triple])}

    def spec(self) -> JSON:
        """Return JSON for another process on this machine."""
        return {"type": f"{__name__}:PackSampler", "triples": [[str(p) for p in triple] for triple in self.triples]}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(spec["triples"])


def label_files(folder: str | Path) -> list[Path]:
    """Return the NIfTI files of a folder, sorted by name.

    Raises
    ------
    InputError
        There is no such folder, or no NIfTI file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, remedy="make label ensembles first, or give their folder")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIXES) and not path.name.startswith("."))
    if not files:
        raise InputError("no NIfTI files in this folder", where=folder, expected="*.nii.gz or *.nii",
                         remedy="make label ensembles first, or give their folder")  # fmt: skip
    return files


def matching_views(files: Sequence[Path], folders: Sequence[str | Path]) -> list[list[Path]]:
    """Return (view 1, view 2, labels) for each label file.

    Raises
    ------
    InputError
        A view is missing.
    """
    triples = []
    for file in files:
        views = [Path(folder) / f"{name}_{file.name}" for name, folder in zip(VIEW_NAMES, folders, strict=True)]
        for view in views:
            if not view.is_file():
                raise InputError("a view of a label ensemble is missing", where=view, expected=f"a view of {file.name}",
                                 remedy="make the views of all ensembles, or give the right folders")  # fmt: skip
        triples.append([*views, file])
    return triples


def file_key(path: Path) -> str:
    """Return a NIfTI file's name without its ending."""
    return next(path.name.removesuffix(s) for s in _SUFFIXES if path.name.endswith(s))


def read_grey(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read a volume of whole numbers up to 255, uint8 (I, J, K), C-ordered."""
    volume = read_labels(path).array
    if volume.dtype != np.uint8:
        raise InputError("values do not fit uint8", where=path, expected="labels up to 255", got=int(volume.max()),
                         remedy="renumber the labels")  # fmt: skip
    return np.ascontiguousarray(volume)


def fingerprint(files: Sequence[Path]) -> JSON:
    """Return number and hash of the files' names and sizes."""
    rows = [[file.name, file.stat().st_size] for file in files]
    return {"count": len(rows), "fingerprint": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _check_names(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file_key(file), file)
        if other is not file:
            raise InputError("two label volumes have the same name, so would their views", where=file, got=str(other),
                             remedy="rename one of them")  # fmt: skip
