"""What the samples of a data set were made from, part by part: each part has one content, or the data set is a mixture.

A part of an input (a chunk of a layer, a label file) is named by whoever reads it, with a digest of what was read;
both stand in the record of each sample as ``reads``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Format, Output
from voxmint.datasets.ledger import Ledger, ledger_of
from voxmint.errors import InputError
from voxmint.sample import JSON

_NEW = 1 << 16
"""Parts that wait in a dictionary, to be sorted in together."""


class Parts:
    """Which parts were read so far, and a digest of the content of each: 16 bytes a part.

    Names and digests are kept as 64-bit hashes, so that millions of chunks fit; two names that share a hash (one
    chance in 10^7 for a million of them) would be taken for a changed part, never the reverse.

    Parameters
    ----------
    definition : dict
        Of the sampler: a part whose name begins with that of an input is told with the address of this input.
    """

    def __init__(self, definition: JSON) -> None:
        self._definition = definition
        self._names: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._digests: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._new: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._names) + len(self._new)

    def add(self, reads: Mapping[str, str]) -> None:
        """Note what was read.

        Raises
        ------
        InputError
            A part was read before with another content.
        """
        for name, digest in reads.items():
            key, value = _word(name), _word(digest)
            known = self._get(key)
            if known is None:
                self._new[key] = value
            elif known != value:
                raise InputError("an input changed: this part of it was read before with another content",
                                 where=self._place(name), got=f"digest {digest}",
                                 remedy="restore the input as it was and give the same command again, or start anew in "
                                        "another directory")  # fmt: skip
        if len(self._new) >= _NEW:
            self._sort_in()

    def _place(self, name: str) -> str:
        about = self._definition.get(name.partition(" ")[0])
        address = about.get("url") or about.get("address") if isinstance(about, dict) else None
        return f"{address}, {name}" if address else name

    def _get(self, key: int) -> int | None:
        if key in self._new:
            return self._new[key]
        at = int(np.searchsorted(self._names, np.uint64(key)))
        return int(self._digests[at]) if at < len(self._names) and int(self._names[at]) == key else None

    def _sort_in(self) -> None:
        names = np.append(self._names, np.fromiter(self._new.keys(), np.uint64, len(self._new)))
        digests = np.append(self._digests, np.fromiter(self._new.values(), np.uint64, len(self._new)))
        order = np.argsort(names, kind="stable")
        self._names, self._digests = names[order], digests[order]
        self._new.clear()


@dataclass(frozen=True)
class Stock:
    """What there is so far of a data set or a shard.

    Attributes
    ----------
    ledger : Ledger
        Which samples are stored or rejected.
    parts : Parts
        What they were made from.
    """

    ledger: Ledger
    parts: Parts

    @classmethod
    def of(cls, output: Output, format: Format, definition: JSON) -> Self:
        """Read a data set's ledger, in one pass for all that a run needs of it.

        Raises
        ------
        InputError
            A part of an input had two contents.
        """
        parts = Parts(definition)

        def stored(entry: JSON) -> bool:
            return "rejected" in entry or format.stored(output, entry["files"])

        return cls(Ledger(ledger_of(output), stored, lambda entry: parts.add(reads_of(entry))), parts)


def reads_of(entry: JSON) -> Mapping[str, str]:
    """Return what a ledger's entry says was read for its sample."""
    about = entry.get("sample") or entry.get("rejected") or {}
    reads: Mapping[str, str] = about.get("record", {}).get("reads", {})
    return reads


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
