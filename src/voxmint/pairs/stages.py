"""Samplers of the later stages, which start from files: views of label volumes, and whole pairs from written stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from voxmint.errors import InputError
from voxmint.nifti.files import read_labels
from voxmint.pairs.naming import SUFFIXES, VIEW_NAMES, file_key, indices_by_name
from voxmint.pairs.recipe import ViewRecipe
from voxmint.pairs.sampler import make_views
from voxmint.sample import JSON, Layout, Sample, Sampler, arrays_digest, content_digest

_LABELS = "make label ensembles first, or give their folder"


class ViewSampler(Sampler):
    """Two views of each given label volume; the sample's key is the file's name.

    Each sample has ``img``, uint8 (2, I, J, K), axes (view, i, j, k). If the first file states a voxel size other than
    1 mm, each view has that of its label volume.

    Parameters
    ----------
    files : sequence of path
        NIfTI label volumes with labels up to 255, any 3D shape.
    recipe : ViewRecipe
        How views are made.
    seed : int
        Seed of the data set; with an ensemble's name it decides its views.

    Examples
    --------
    >>> import nibabel, numpy as np, voxmint as vm
    >>> nibabel.save(nibabel.Nifti1Image(np.eye(16, dtype=np.uint8)[None] * np.ones((9, 1, 1), "u1"), None), "a.nii")
    >>> vm.ViewSampler(["a.nii"])[0].arrays["img"].shape
    (2, 9, 16, 16)
    """

    arrays: ClassVar[tuple[str, ...]] = ("img",)
    generator: ClassVar[str] = "pairs.views"
    grows: ClassVar[frozenset[str]] = frozenset({"labels.count", "labels.fingerprint"})

    def __init__(self, files: Sequence[str | Path], recipe: ViewRecipe | None = None, seed: int = 0) -> None:
        self.files, self.recipe, self.seed = [Path(file) for file in files], recipe or ViewRecipe(), int(seed)
        self._first_size: list[float] | None = None
        self._indices = indices_by_name(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def make(self, index: int) -> Sample:
        """Read label volume ``index``, and render it twice."""
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled

        path = self.files[index]
        ensure_compiled()
        labels, size = read_sized(path)
        images, drawn = make_views(labels, self.recipe, self.seed, file_key(path))
        record: JSON = {"labels": path.name, "labels_digest": arrays_digest({"seg": labels}), "views": drawn}
        if self._sizes():
            record["voxel_size"] = size
        return Sample(index, file_key(path), {"img": images}, record, {path.name: content_digest(labels)})

    def layout(self) -> Layout:
        """Return shape and dtype of ``img`` for the first file; the others may have other sizes."""
        return {"img": ((len(VIEW_NAMES), *read_grey(self.files[0]).shape), "uint8")}

    def definition(self) -> JSON:
        """Return generator, seed, input and recipe."""
        labels = _described(self.files) | self._sizes()
        return {"generator": self.generator, "seed": self.seed, "labels": labels, "recipe": self.recipe.to_dict()}

    def _sizes(self) -> JSON:
        """Return the first label volume's voxel size, if it is one that views must state, too."""
        if self._first_size is None:
            self._first_size = read_sized(self.files[0])[1]
        return {} if self._first_size == [1.0, 1.0, 1.0] else {"voxel_size": self._first_size}

    def access(self) -> JSON:
        """Return the files by their paths."""
        return {"ensembles": [str(file) for file in self.files]}

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build from a definition.

        Raises
        ------
        InputError
            The label volumes are gone, or not those that the views were made of.
        """
        about = definition["labels"]
        found = access.get("ensembles") or _given(about, "ensembles")
        files = label_files(found) if isinstance(found, str) else [Path(file) for file in found]
        _check_described(files, about)
        sampler = cls(files, ViewRecipe.from_dict(definition["recipe"]), int(definition["seed"]))
        # of version 0.1 nothing is said, and then nothing is stated
        sampler._first_size = about.get("voxel_size", [1.0, 1.0, 1.0])
        return sampler

    def index_now(self, sample: JSON) -> int | None:
        """Return where the label volume of a sample's name is among the files, if it is still the one that it was."""
        index, record = self._indices.get(sample["key"]), sample["record"]
        if index is not None and arrays_digest({"seg": read_grey(self.files[index])}) != record["labels_digest"]:
            raise InputError("a label volume is not the one that its views were made of", where=self.files[index],
                             remedy="put it back as it was, or make the views in another directory")  # fmt: skip
        return index

    def prepare(self) -> None:
        """Compile the kernels, or load them compiled."""
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled

        ensure_compiled()


class PackSampler(Sampler):
    """Pairs read back from the files of the earlier stages.

    Each sample has ``img``, uint8 (2, I, J, K), and ``seg``, uint8 (I, J, K).

    Parameters
    ----------
    triples : sequence of (path, path, path)
        View 1, view 2 and label volume of each sample, all of one shape.
    order : {"name", "made"}
        Why they are in this order; recorded, so that they can be found in it again.
    """

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")
    generator: ClassVar[str] = "pairs.pack"

    def __init__(self, triples: Sequence[Sequence[str | Path]], order: str = "made") -> None:
        self.order_of = order
        self.triples = [[Path(path) for path in triple] for triple in triples]
        if not self.triples:
            raise InputError("there is nothing to pack", expected="at least one label volume with its two views")
        self.shape = read_grey(self.triples[0][2]).shape

    def __len__(self) -> int:
        return len(self.triples)

    def make(self, index: int) -> Sample:
        """Read the three volumes of sample ``index``."""
        paths = self.triples[index]
        volumes = [read_grey(path) for path in paths]
        for path, volume in zip(paths, volumes, strict=True):
            if volume.shape != self.shape:
                raise InputError("a volume of another shape cannot go into the same data set", where=path,
                                 expected=self.shape, got=volume.shape, remedy="pack it on its own")  # fmt: skip
        arrays = {"img": np.stack(volumes[:2]), "seg": volumes[2]}
        reads = {path.name: content_digest(volume) for path, volume in zip(paths, volumes, strict=True)}
        return Sample(index, file_key(paths[2]), arrays, {"files": [path.name for path in paths]}, reads)

    def layout(self) -> Layout:
        """Return shape and dtype of each array: those of the first sample."""
        return {"img": ((2, *self.shape), "uint8"), "seg": (self.shape, "uint8")}

    def definition(self) -> JSON:
        """Return generator and input."""
        files = [path for triple in self.triples for path in triple]
        about = _described(files) | {"address": str(self.triples[0][2].parent.absolute())}
        views = [str(path.parent.absolute()) for path in self.triples[0][:2]]
        return {"generator": self.generator, "files": about | {"order": self.order_of, "views": views}}

    def access(self) -> JSON:
        """Return the files by their paths."""
        return {"triples": [[str(path) for path in triple] for triple in self.triples]}

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build from a definition.

        Raises
        ------
        InputError
            The files are gone, or not those that were packed.
        """
        about = definition["files"]
        triples = access.get("triples")
        if triples is None:
            views = access.get("views") or about.get("views")
            if views is None or ("views" not in access and not all(Path(folder).is_dir() for folder in views)):
                raise _elsewhere("views", views)
            folders = [str(Path(views) / name) for name in VIEW_NAMES] if isinstance(views, str) else views
            labels = str(access.get("ensembles") or _given(about, "ensembles"))
            made = None if about.get("order") == "name" else order_made(labels)
            triples = matching_views(label_files(labels) if made is None else made, folders)
        sampler = cls(triples, about.get("order", "made"))
        _check_described([path for triple in sampler.triples for path in triple], about)
        return sampler


def label_files(folder: str | Path) -> list[Path]:
    """Return the NIfTI files of a folder, sorted by name.

    Raises
    ------
    InputError
        There is no such folder, or no NIfTI file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, remedy=_LABELS)
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and not path.name.startswith("."))
    if not files:
        raise InputError("no NIfTI files in this folder", where=folder, expected="*.nii.gz or *.nii", remedy=_LABELS)
    return files


def matching_views(files: Sequence[Path], folders: Sequence[str | Path]) -> list[list[Path]]:
    """Return (view 1, view 2, labels) for each label file that has both views.

    Raises
    ------
    InputError
        None has.
    """
    triples = [
        [*(Path(folder) / f"{name}_{file.name}" for name, folder in zip(VIEW_NAMES, folders, strict=True)), file]
        for file in files
    ]
    found = [triple for triple in triples if all(view.is_file() for view in triple[:2])]
    if not found:
        raise InputError("no label ensemble has its two views", where=triples[0][0].parent,
                         expected=" and ".join(view.name for view in triples[0][:2]) + ", for example",
                         remedy="make the views first, or give the right folders")  # fmt: skip
    return found


def read_grey(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read a volume of whole numbers up to 255, uint8 (I, J, K), C-ordered."""
    return read_sized(path)[0]


def read_sized(path: Path) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], list[float]]:
    """Read the same, and its voxel size along (i, j, k), mm."""
    labels = read_labels(path)
    volume = labels.array
    if volume.dtype != np.uint8:
        raise InputError("values do not fit uint8", where=path, expected="labels up to 255", got=int(volume.max()),
                         remedy="renumber the labels")  # fmt: skip
    return np.ascontiguousarray(volume), [round(size, 6) for size in labels.voxel_size_mm]


def order_made(folder: str | Path) -> list[Path] | None:
    """Return the label volumes of a folder in the order in which they were made, None where it does not record that."""
    files, records = label_files(folder), Path(folder) / "records.jsonl"
    if not records.is_file():
        return None
    order = {}
    with records.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            order[f"{record['key']}.nii.gz"] = record["index"]
    if any(file.name not in order for file in files):
        return None
    return sorted(files, key=lambda file: order[file.name])


def _described(files: Sequence[Path]) -> JSON:
    """Return where files lie, their number, and a hash of their names and sizes; samples record what was in them."""
    rows = [[file.name, file.stat().st_size] for file in files]
    return {"count": len(rows), "fingerprint": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
            "address": str(files[0].parent.absolute())}  # fmt: skip


def _check_described(files: Sequence[Path], about: JSON) -> None:
    found = _described(files)
    for name in ("count", "fingerprint"):
        if found[name] != about[name]:
            raise InputError("these are not the files that the data set was made from", where=files[0].parent,
                             expected=f"{about['count']:,} files, {name} {about[name]}",
                             got=f"{found['count']:,} files, {name} {found[name]}",
                             remedy="put them back as they were, or make another data set")  # fmt: skip


def _given(about: JSON, name: str) -> str:
    if "address" not in about or not Path(about["address"]).is_dir():
        raise _elsewhere(name, about.get("address"))
    return str(about["address"])


def _elsewhere(name: str, where: object) -> InputError:
    return InputError(f"the {name} that this data set was made from lie elsewhere",
                      where=None if where is None else str(where), remedy=f"name their folder: --{name}")  # fmt: skip
