"""The seam between making and using: a `Sample`, and the `Sampler` that is a pure function from an index to one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import FailedSample, RejectedSample

JSON = dict[str, Any]


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
    """

    index: int
    key: str
    arrays: Mapping[str, NDArray[Any]]
    record: JSON = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 over names, types, shapes and bytes of all arrays, in order of their names."""
        return arrays_digest(self.arrays)


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) over name, dtype, shape and C-ordered little-endian bytes of each array, by name."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


@runtime_checkable
class Sampler(Protocol):
    """A pure function from an index to a sample: the same bytes on any machine, in any order.

    A sampler can be described as plain JSON (`spec`) and built again from it (`from_spec`) in another process.
    """

    arrays: ClassVar[tuple[str, ...]]
    """Names of the arrays every sample has."""

    def __len__(self) -> int:
        """Return how many samples there are (indices run from 0)."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Make sample ``index``."""
        ...

    def stream(self, indices: Iterable[int]) -> Iterator[Sample | RejectedSample | FailedSample]:
        """Make many samples, free to read ahead; yields them, or why there is none, in any order."""
        ...

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and dtype of each array, ``{}`` when they differ from sample to sample."""
        ...

    def definition(self) -> JSON:
        """Return all that defines the samples: generator, recipe, fingerprint of the input, seed."""
        ...

    def spec(self) -> JSON:
        """Return JSON from which `from_spec` builds an equal sampler in another process on this machine."""
        ...

    @classmethod
    def from_spec(cls, spec: JSON) -> Sampler:
        """Build the sampler that `spec` describes."""
        ...
