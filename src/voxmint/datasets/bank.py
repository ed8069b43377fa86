"""A template bank as a data set: samples of any size, kept as parts until the bank is written from them in order."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Output
from voxmint.errors import PlanError, StorageError
from voxmint.files import file_entry, storage_errors, sync_directory
from voxmint.sample import JSON, Sample
from voxmint.templates.bank import FILE_NAME

if TYPE_CHECKING:
    from voxmint.templates.packing import Template


@dataclass(frozen=True)
class BankFormat:
    """One template bank, made from the templates that each sample holds.

    Parameters
    ----------
    file : str
        Name of the bank below the output's directory. Parts wait in ``<file>.parts`` until it is in place.
    """

    file: str = FILE_NAME
    name: ClassVar[str] = "bank"
    needs_key: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file:
            raise PlanError("unusable name of a bank", expected="a file name without folders", got=self.file)

    def spec(self) -> JSON:
        """Return the options as JSON."""
        return {"name": self.name, "file": self.file}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build from what `spec` returned."""
        return cls(str(spec["file"]))

    def check(self, output: Output) -> None:
        """Accept any samples."""

    def present(self, output: Output) -> list[str]:
        """Return the bank if it exists."""
        return [self.file] if (output.directory / self.file).exists() else []

    def remaining_bytes(self, output: Output, done: int) -> int:  # noqa: ARG002
        """Return 0: templates differ in size, and are small beside their sources."""
        return 0

    def begin(self, output: Output) -> None:
        """Make the folder of parts; a bank without one is made again, from all parts."""
        with storage_errors(self._parts(output), "making the folder"):
            if not self._parts(output).exists():
                (output.directory / self.file).unlink(missing_ok=True)
            self._parts(output).mkdir(parents=True, exist_ok=True)

    def write(self, output: Output, sample: Sample) -> list[JSON]:
        """Store the sample as one part, under a temporary name first."""
        from voxmint.files import atomic_path

        path = self._part(output, sample.index)
        about = json.dumps({"key": sample.key, "record": sample.record}).encode()
        arrays: dict[str, Any] = {f"array_{name}": array for name, array in sample.arrays.items()}
        arrays["about"] = np.frombuffer(about, np.uint8)
        with atomic_path(path) as draft, draft.open("xb") as stream:
            np.savez(stream, **arrays)
        return []

    def stored(self, output: Output, files: list[JSON]) -> bool:  # noqa: ARG002
        """Return True: `commit` says which part is missing."""
        return True

    def sync(self, output: Output) -> None:
        """Make the parts' names last; their data were flushed one by one."""
        sync_directory(self._parts(output))

    def commit(self, output: Output) -> list[JSON]:
        """Write the bank from all parts in order of their index."""
        from voxmint.templates.writing import write_bank

        path = output.directory / self.file
        if not path.exists():
            write_bank(path, self._templates(output), origin=output.directory)
        sync_directory(output.directory)
        return [file_entry(output.directory, path)]

    def cleanup(self, output: Output) -> None:
        """Remove the parts."""
        parts = self._parts(output)
        for path in parts.iterdir() if parts.exists() else ():
            if path.name.endswith((".npz", ".part")):
                path.unlink()
        if parts.exists():
            parts.rmdir()

    def entry(self, output: Output, file: JSON) -> JSON:
        """Return size and SHA-256 of the bank as it is now."""
        return file_entry(output.directory, output.directory / str(file["file"]))

    def files(self, output: Output, index: int, key: str) -> dict[str, list[str]]:  # noqa: ARG002
        """Return the bank, or the part while there is no bank."""
        path = self._part(output, index).relative_to(output.directory).as_posix()
        return {"templates": [self.file if (output.directory / self.file).exists() else path]}

    def read(self, output: Output, index: int, key: str) -> dict[str, NDArray[Any]] | None:  # noqa: ARG002
        """Return a part's arrays, None once the bank is written."""
        if (output.directory / self.file).exists():
            return None
        return dict(self._sample(output, index).arrays)

    def _templates(self, output: Output) -> Iterator[Template]:
        from voxmint.templates.source import templates_of

        for index in range(output.count):
            with self._reading_errors(output, index):
                templates = templates_of(self._sample(output, index))
            yield from templates

    def _sample(self, output: Output, index: int) -> Sample:
        with (
            self._reading_errors(output, index),
            self._part(output, index).open("rb") as file,  # NumPy would leave that of a damaged part open
            np.load(file, allow_pickle=False) as part,
        ):
            about = json.loads(part["about"].tobytes())
            arrays = {name.removeprefix("array_"): part[name] for name in part.files if name.startswith("array_")}
            return Sample(index, about["key"], arrays, about["record"])

    @contextmanager
    def _reading_errors(self, output: Output, index: int) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile) as error:
            path, remedy = self._part(output, index), f"delete {output.state} and {self._parts(output)}, then run again"
            if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):  # the disk, not its content
                remedy = "check the disk, then run the same command again: it goes on where it stopped"
            raise StorageError(f"cannot read a part of the bank: {error}", where=path, remedy=remedy) from error

    def _parts(self, output: Output) -> Path:
        return output.directory / f"{self.file}.parts"

    def _part(self, output: Output, index: int) -> Path:
        return self._parts(output) / f"{index:06d}.npz"
