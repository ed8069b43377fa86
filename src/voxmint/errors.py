"""Every exception a user can meet. Each says what went wrong, where, what was expected and got, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

Cause = Literal["missing", "forbidden", "unreadable"]
"""Absent (404), refused (401, 403), or anything else after bounded retries: damaged, cut, no answer."""


class VoxmintError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what : str
        What went wrong, one sentence without a final stop.
    where : str or Path, optional
        The file, URL, sample or field it happened at.
    expected, got : object, optional
        What should have been there, and what was.
    remedy : str, optional
        What the user can do about it.

    Examples
    --------
    >>> import voxmint as vm
    >>> try:
    ...     vm.PairRecipe(side=5)
    ... except vm.VoxmintError as error:
    ...     print(error.where, "|", error.what)
    side | Input should be greater than or equal to 16
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.got, self.remedy = what, where, expected, got, remedy
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        for label, value in (("expected", self.expected), ("got", self.got), ("remedy", self.remedy)):
            if value is not None:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)


class RecipeError(VoxmintError, ValueError):
    """A recipe has an unknown field, a value out of range, or contradicts itself."""


class InputError(VoxmintError, ValueError):
    """An input file is cut, corrupt, empty, of the wrong kind, or claims an absurd size."""


class UnusableFilesError(InputError):
    """Files of an input cannot be used; ``got`` lists all of them, one a line, each with the reason."""


class NoRoomError(InputError):
    """An input takes more memory than there is, here and now: nothing is wrong with the file."""


class TemplateBankError(InputError):
    """A template bank is missing, empty, damaged or does not match its fingerprint."""


class DownloadError(VoxmintError, OSError):
    """A download cannot be completed or does not match its published checksum."""


class PlanError(VoxmintError, ValueError):
    """A run cannot start: it would not fit, or contradicts what already lies in the directory."""


class StorageError(VoxmintError, OSError):
    """Writing or reading the output failed: no space, no permission, a broken disk."""


class RunError(VoxmintError, RuntimeError):
    """A run ended without making every sample; lists which and why.

    Attributes
    ----------
    causes : sequence of VoxmintError or None
        What failed of each sample, as far as it is known.
    """

    causes: Sequence[VoxmintError | None] = ()


class RejectedSample(VoxmintError, ValueError):  # noqa: N818 - an outcome, told by name in ledgers and reports
    """An input has no sample to offer, for a reason that the next run would find again; it counts as rejected.

    Attributes
    ----------
    what : str
        The reason, in words.
    index : int
        Number of the sample that is not made, -1 where it is not known.
    key : str
        The name it would have had.
    record : dict
        JSON-able: what is known of the input.
    reads : dict
        As of a sample: what was read of the inputs until it was rejected, by name, with a digest.
    """

    index: int = -1
    key: str = ""
    record: dict[str, Any]
    reads: dict[str, str]

    def __init__(self, what: str, **about: Any) -> None:
        super().__init__(what, **about)
        self.record, self.reads = {}, {}


class LayerError(VoxmintError, OSError):
    """A layer cannot be opened, or is none: missing, forbidden, unreadable, or without a voxel size.

    Attributes
    ----------
    argument : str
        Of `voxmint.volumes.opening.open_layer`, where that is at fault; else empty.
    """

    argument: str = ""

    def about(self, argument: str) -> Self:
        """Name the argument that is at fault; return the error."""
        self.argument = argument
        return self


class ChunkError(LayerError):
    """A chunk of a layer is missing, forbidden or unreadable; no voxels were made up for it.

    Attributes
    ----------
    box : voxmint.volumes.box.Box
        The chunk.
    cause : Cause
        Which of the three.
    """

    box: Any
    cause: Cause


class VerificationError(VoxmintError, RuntimeError):
    """Stored data differ from their recorded digests."""


class MissingExtraError(VoxmintError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        """Build the error that names the pip command installing ``package`` through ``voxmint[extra]``."""
        return cls(f"{package} is not installed", remedy=f"pip install 'voxmint[{extra}]'")
