"""HDF5 in the published layout: `train_data.hdf5` and `val_data.hdf5`, one group a sample, plain contiguous datasets.

The leading process makes the whole structure first, with every byte of every array still unwritten. Since datasets
are uncompressed and contiguous, each array then has a fixed place in the file, and workers put the bytes there with
`pwrite`: no HDF5 lock, nothing copied between processes, any order, the same bytes at the end. HDF5's own parallel
writing (MPI) was rejected for its dependency, and a single writing process because it would have to touch every byte.

Structure and arrays can so be treated apart. To remove groups of rejected samples, HDF5 does it in a copy of the
structure alone, which then replaces that of the file; letting HDF5 change the file itself could not be repeated after a
kill. A damaged structure is made anew around the arrays in the same way.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import AXES, Output, checked_axes
from voxmint.datasets.hdf5_structure import (
    HDF5_VERSION,
    copy_arrays,
    copy_structure,
    hdf5_errors,
    lay_over,
    make_structure,
    pwrite_all,
    structure_digest,
)
from voxmint.errors import PlanError, StorageError
from voxmint.files import PARTIAL, move, publish, storage_errors, sync_directory, sync_file, write_atomically
from voxmint.sample import JSON, Sample, little_endian
from voxmint.system import open_file

TRAIN, VAL = "train_data.hdf5", "val_data.hdf5"
_OFFSETS = "offsets.npy"
_GROUP_BYTES = 1024
"""Upper estimate of the structure's bytes a sample (measured: about 720 with two arrays)."""


@dataclass(frozen=True)
class Hdf5Format:
    """Two HDF5 files that plain ``h5py`` opens without plug-ins.

    Parameters
    ----------
    val_count : int
        How many samples, the last in sorted order of their names, go to ``val_data.hdf5``.
    axes : {"zyx", "xyz"}
        With ``xyz`` the files hold the arrays with all axes the other way round; `read` turns them back.
    """

    val_count: int = 0
    axes: str = AXES[0]
    name: ClassVar[str] = "hdf5"
    needs_key: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checked_axes(self.axes)

    def spec(self) -> JSON:
        """Return the options as JSON."""
        turned = {"axes": self.axes} if self.axes != AXES[0] else {}
        return {"name": self.name, "val_count": self.val_count, **turned}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(**{key: value for key, value in spec.items() if key != "name"})

    def check(self, output: Output) -> None:
        """Raise `PlanError` if the samples differ in shape, or more are wanted for validation than there are."""
        if output.url is not None:
            raise PlanError("HDF5 files cannot be written to a bucket piece by piece", where=output.where,
                            remedy="choose the npy or nifti format, or a local folder and copy the files")  # fmt: skip
        if not output.layout or not output.sample_bytes:
            raise PlanError(
                "HDF5 needs samples of one fixed, non-empty shape",
                where=output.directory,
                got=str(dict(output.layout)),
                remedy="choose the nifti format",
            )
        if not 0 <= self.val_count < max(1, output.count):
            raise PlanError("with so many samples for validation none is left to train on", where="--val_count",
                            expected=f"0 to {output.count - 1}, below the number of samples", got=self.val_count,
                            remedy="choose a smaller --val_count, or more samples")  # fmt: skip

    def present(self, output: Output) -> list[str]:
        """Return which of the two files exist."""
        return [path.name for path in self._finals(output) if path.exists()]

    def remaining_bytes(self, output: Output, done: int) -> int:  # noqa: ARG002 - blocks on disk say it exactly
        """Return the full size less the blocks that the unfinished files occupy already."""
        files = [*self._finals(output), *(_partial(path) for path in self._finals(output))]
        allocated = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in files if path.exists())
        return max(0, output.count * (output.sample_bytes + _GROUP_BYTES) - allocated)

    def begin(self, output: Output) -> None:
        """Make the structure of both files, unless an earlier run did; in files that exist, around their arrays."""
        if (output.state / _OFFSETS).exists():
            finals = self._finals(output)
            lost = [path for path in finals if not path.exists() and not _partial(path).exists()]
            if lost:
                raise StorageError(
                    "the unfinished file is gone",
                    where=_partial(lost[0]),
                    remedy=f"put it back, or delete {output.state} and all .partial files to begin anew",
                )
        else:
            self._reserve(output)
        self._bring_over(output)

    def set_aside(self, output: Output) -> None:
        """Move both files to where `begin` brings their arrays over from, to the places of the files that it makes."""
        if any(_aside(output, path).exists() for path in self._finals(output)):
            self.begin(output)  # ends what a kill interrupted
        (output.state / _OFFSETS).unlink(missing_ok=True)
        for path in self._finals(output):
            _structure(output, path).unlink(missing_ok=True)
            for file in (path, _partial(path)):
                if file.exists():
                    move(file, _aside(output, path))

    def _bring_over(self, output: Output) -> None:
        """Copy what lies in files that were set aside to its places, and remove them; safe to repeat."""
        aside = [path for path in (_aside(output, path) for path in self._finals(output)) if path.exists()]
        if not aside:
            return
        offsets = np.load(output.state / _OFFSETS, mmap_mode="r", allow_pickle=False)
        for path in aside:
            copy_arrays(path, lambda index: (_partial(self._final(output, index)), offsets[index].tolist()))
        self.sync(output)
        for path in aside:
            path.unlink()

    def _reserve(self, output: Output) -> None:
        """Make the structure of both files."""
        offsets = []
        for path, limits in zip(self._finals(output), self._limits(output), strict=True):
            _structure(output, path).unlink(missing_ok=True)
            if path.exists():
                with storage_errors(path, "renaming"):
                    path.replace(_partial(path))
                    sync_directory(path.parent)
            names = (_group(index, output.count) for index in range(*limits))
            offsets.append(make_structure(_partial(path), names, self._turned(output)))
        _save_offsets(output, np.concatenate(offsets))

    def renote(self, output: Output) -> None:
        """Forget the places of the arrays, which `begin` finds again where another text leaves them as they are."""
        known, trial = output.state / _OFFSETS, output.state / f"{TRAIN}.trial"
        if not known.exists():
            return
        found, turned = [], self._turned(output)
        for limits in self._limits(output):
            found.append(make_structure(trial, (_group(index, output.count) for index in range(*limits)), turned))
            trial.unlink()
        if not np.array_equal(np.concatenate(found), np.load(known, allow_pickle=False)):
            raise PlanError("the unfinished HDF5 files have no room for another recipe", where=output.where,
                            remedy="begin anew in another directory, or choose the npy format")  # fmt: skip
        known.unlink()

    def write(self, output: Output, sample: Sample) -> list[JSON]:
        """Put the arrays' bytes at their places in the unfinished file."""
        offsets = np.load(output.state / _OFFSETS, mmap_mode="r", allow_pickle=False)[sample.index]
        path = _partial(self._final(output, sample.index))
        with storage_errors(path, f"writing sample {sample.index}", output.sample_bytes):
            # Not created when absent: a worker that outlives its run must not make a new file.
            descriptor = open_file(path, os.O_WRONLY)
            try:
                layout = sorted(self._turned(output).layout.items())
                for offset, (name, (shape, dtype)) in zip(offsets.tolist(), layout, strict=True):
                    array = little_endian(self._turn(sample.arrays[name]))
                    if array.shape != shape or array.dtype != np.dtype(dtype).newbyteorder("<"):
                        raise StorageError(
                            f"{name!r} of sample {sample.index} does not fit its place",
                            where=path,
                            expected=f"{dtype} {shape}",
                            got=f"{array.dtype} {array.shape}",
                        )
                    pwrite_all(descriptor, array.reshape(-1).view(np.uint8).data, offset)
            finally:
                os.close(descriptor)
        return []

    def stored(self, output: Output, files: list[JSON]) -> bool:  # noqa: ARG002
        """Return True: `begin` refuses to go on if a file that held samples is gone."""
        return True

    def sync(self, output: Output) -> None:
        """Flush what workers wrote."""
        for path in self._finals(output):
            if _partial(path).exists():
                sync_file(_partial(path))

    def give_up(self, output: Output, rejected: Sequence[int]) -> None:
        """Remove the groups of rejected samples from the unfinished files.

        The new structure is whole on the disk before the file is touched, and laying it over the file can be repeated.
        """
        for path in self._finals(output):
            partial, structure = _partial(path), _structure(output, path)
            names = [_group(index, output.count) for index in rejected if self._final(output, index) == path]
            if not names or not partial.exists():
                continue
            if not structure.exists():
                draft = structure.with_name(structure.name + ".draft")
                copy_structure(partial, draft)
                doing = hdf5_errors(draft, "changing the structure")
                with doing, h5py.File(draft, "r+", libver=HDF5_VERSION) as file:
                    for name in names:
                        del file[name]
                publish(draft, structure)
            lay_over(structure, partial)

    def commit(self, output: Output) -> list[JSON]:
        """Rename both files to their final names."""
        for path in self._finals(output):
            if _partial(path).exists():
                publish(_partial(path), path)
        return [self.entry(output, {"file": path.name}) for path in self._finals(output)]

    def cleanup(self, output: Output) -> None:
        """Remove the table of places, the copies of the structure, and what was set aside for good."""
        for path in self._finals(output):
            _structure(output, path).unlink(missing_ok=True)
            _aside(output, path).unlink(missing_ok=True)
        (output.state / _OFFSETS).unlink(missing_ok=True)

    def entry(self, output: Output, file: JSON) -> JSON:
        """Return size and SHA-256 of all bytes but the arrays', which the samples' own digests cover."""
        path = output.directory / str(file["file"])
        size, digest = structure_digest(path)
        return {"file": path.name, "bytes": size, "covers": "all but arrays", "sha256": digest}

    def files(self, output: Output, index: int, key: str) -> dict[str, list[str]]:  # noqa: ARG002
        """Return the one file that holds the sample."""
        path = self._final(output, index)
        found = path if path.exists() else _partial(path)
        return {name: [found.name] for name in output.layout}

    def read(self, output: Output, index: int, key: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of the group ``index``, through h5py as any user reads them."""
        (name,) = next(iter(self.files(output, index, key).values()))
        path = output.directory / name
        with hdf5_errors(path, f"reading sample {index}"), h5py.File(path, "r", locking=False) as file:
            group = file[_group(index, output.count)]
            return {array: self._turn(group[array][()]) for array in group}

    def _finals(self, output: Output) -> tuple[Path, Path]:
        return output.directory / TRAIN, output.directory / VAL

    def _turn(self, array: NDArray[Any]) -> NDArray[Any]:
        return array if self.axes == AXES[0] else array.T

    def _turned(self, output: Output) -> Output:
        """Return an output with the shapes that arrays have in the files."""
        if self.axes == AXES[0]:
            return output
        return replace(output, layout={name: (shape[::-1], dtype) for name, (shape, dtype) in output.layout.items()})

    def _limits(self, output: Output) -> tuple[tuple[int, int], tuple[int, int]]:
        split = output.count - self.val_count
        return (0, split), (split, output.count)

    def _final(self, output: Output, index: int) -> Path:
        return self._finals(output)[index >= output.count - self.val_count]


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _structure(output: Output, path: Path) -> Path:
    """Return where a copy of a file's structure waits to be laid over it."""
    return output.state / f"{path.name}.structure"


def _aside(output: Output, path: Path) -> Path:
    """Return where a file of another number of samples waits to be brought over."""
    return output.state / f"{path.name}.aside"


def _group(index: int, count: int) -> str:
    return f"{index:0{max(6, len(str(count - 1)))}d}"


def _save_offsets(output: Output, offsets: NDArray[np.int64]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, offsets, allow_pickle=False)
    write_atomically(output.state / _OFFSETS, [buffer.getvalue()])
