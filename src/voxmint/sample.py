"""The seam between making and using: a `Sample`, and the `Sampler` that is a pure function from an index to one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import RejectedSample

JSON = dict[str, Any]
Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype of each array by its name."""


@dataclass(frozen=True)
class Sample:
    """Named arrays, a key, and a record of how they were made.

    Attributes
    ----------
    index : int
        Number of the sample in its data set.
    key : str
        Unique name, usable as part of a file name.
    arrays : mapping of str to ndarray
        What was made; the axes of each are documented by the sampler that makes it.
    record : dict
        JSON-able: inputs and every parameter drawn, enough to make the arrays again.
    reads : mapping of str to str
        Each part of an input that was read to make it, by name, with a digest of its content: a data set in which one
        name has two digests would be a mixture.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> sample = vm.PairSampler(vm.PairRecipe(side=16), "bank", seed=0)[2]
    >>> sample.index, sample.arrays["img"].shape, sample.arrays["seg"].dtype.name
    (2, (2, 16, 16, 16), 'uint8')
    """

    index: int
    key: str
    arrays: Mapping[str, NDArray[Any]]
    record: JSON = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 over names, types, shapes and bytes of all arrays, in order of their names."""
        return arrays_digest(self.arrays)


@dataclass(frozen=True)
class Rejected:
    """An input that has no sample to offer, for a reason that the next run would find again.

    Attributes
    ----------
    index, key : int, str
        Of the sample that is not made.
    reason : str
        In words, one line.
    record : dict
        JSON-able: what is known of the input.
    reads : mapping of str to str
        As for `Sample`.
    """

    index: int
    key: str
    reason: str
    record: JSON = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)

    def error(self) -> RejectedSample:
        """Return the exception that says the same."""
        error = RejectedSample(self.reason, where=f"sample {self.index} ({self.key})")
        error.index, error.key, error.record, error.reads = self.index, self.key, self.record, dict(self.reads)
        return error


@dataclass(frozen=True)
class Failed:
    """A sample of a stream that could not be made; the others go on. ``cause`` is what making it alone raises."""

    index: int
    cause: Exception


Outcome = Sample | Rejected | Failed
"""What becomes of an index."""


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) over name, dtype, shape and C-ordered little-endian bytes of each array, by name."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = little_endian(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def content_digest(array: NDArray[Any]) -> str:
    """Return 16 hex digits that name the C-ordered little-endian bytes of an array: the start of their SHA-256.

    Of the secure hashes SHA-256 is the fastest where the processor knows it, which those since about 2019 do.
    """
    return hashlib.sha256(little_endian(array).reshape(-1).view(np.uint8).data).hexdigest()[:16]


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array C-ordered and little-endian, the byte order of every stored array and digest."""
    array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


class Sampler(ABC):
    """A pure function from an index to a sample: the same bytes on any machine, in any order.

    A sampler says what it is as plain JSON (`definition`, and `access` for what is of this machine alone), and is
    opened from it again anywhere (`open`). A subclass has ``generator``, its name in `voxmint.generators.GENERATORS`.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> sampler = vm.PairSampler(vm.PairRecipe(side=16), "bank", seed=0)
    >>> [sample.index for sample in sampler[3:6]]
    [3, 4, 5]
    >>> sampler[4].digest() == sampler[3:6][1].digest()
    True
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays every sample has."""
    generator: ClassVar[str] = ""
    rejects: ClassVar[bool] = False
    """Whether some indices may turn out to have no sample; then there is a list of those even when it is empty."""
    grows: ClassVar[frozenset[str]] = frozenset()
    """Fields of the definition that change where samples are added; `index_now` then tells which is which."""
    tries_all: ClassVar[bool] = False
    """Whether a run goes on to the end even if its first samples all fail, so that it can tell of each."""
    batch: int = 1
    """How many samples are best made together, through `stream`."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many samples there are (indices run from 0)."""

    @abstractmethod
    def make(self, index: int) -> Sample | Rejected:
        """Make sample ``index``, which is known to be one; raise whatever goes wrong."""

    @abstractmethod
    def layout(self) -> Layout:
        """Return shape and dtype of each array, ``{}`` when they differ from sample to sample."""

    @abstractmethod
    def definition(self) -> JSON:
        """Return all that defines the samples and opens them again anywhere: generator, seed, recipe, inputs.

        Each input is a mapping with its address and a ``fingerprint`` of its content. Holds no secrets: it is recorded.
        """

    def access(self) -> JSON:
        """Return what `open` needs beyond the definition on this machine and in this command; never recorded."""
        return {}

    @classmethod
    @abstractmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build the sampler that a definition describes.

        Raises
        ------
        InputError
            An input is gone, or its content is not what the definition says.
        """

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Make a sample; of a slice, all of its samples. Negative indices count from the end.

        Raises
        ------
        IndexError
            There is no such index, which also ends iteration.
        RejectedSample
            The input has no sample to offer.
        """
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        outcome = self.make(int(index) % len(self))
        if isinstance(outcome, Rejected):
            raise outcome.error()
        return outcome

    def stream(self, indices: Iterable[int]) -> Iterator[Outcome]:
        """Make many samples, free to read ahead; yields what becomes of each, in any order, and raises nothing."""
        return (attempt(self, index) for index in indices)

    def order(self) -> Sequence[int] | NDArray[np.int64] | None:
        """Return all indices, those best made one after the other next to each other; None for their own order."""
        return None

    def prepare(self) -> None:  # noqa: B027 - most are ready at once
        """Load what making samples takes, such as compiled kernels, so that the first one takes no longer."""

    def deposit(self, folder: Path) -> None:  # noqa: B027 - most have nothing to write
        """Write what other processes and later runs need of the inputs into the folder of a run."""

    def index_now(self, sample: JSON) -> int | None:
        """Return the index of a sample that was recorded before others were added; None if it is none of these.

        Raises
        ------
        InputError
            What it was made from has another content now.
        """
        return int(sample["index"])

    def check(self) -> None:  # noqa: B027 - what is made from nothing has nothing to check
        """Raise `InputError`, naming the input, if the content of one is not what the definition says."""


def attempt(sampler: Sampler, index: int) -> Outcome:
    """Make one sample; what goes wrong is a value, too."""
    try:
        return sampler.make(index)
    except Exception as error:  # handed on: whoever asked decides
        return Failed(index, error)
