"""Chunks that a layer lacks or may not read: remembered, and told to who asks."""

from __future__ import annotations

from collections import OrderedDict

from voxmint.errors import Cause, ChunkError
from voxmint.volumes.box import Box

_REMEDIES: dict[Cause, str] = {
    "missing": "if absent chunks of this layer mean background, declare it sparse (--source-sparse, --target-sparse); "
    "else complete the layer",
    "forbidden": "give credentials that may read it (a secrets file), or ask the owner",
    "unreadable": "try again later; if it stays, the chunk is damaged where it is stored",
}
_MOST_REFUSED = 1 << 14
"""Missing or forbidden chunks that a layer remembers, about 10 MB of them."""
Refusal = tuple[Cause, str]
"""Why a chunk was not read, and in which words."""


class RefusedChunks:
    """What is known of chunks that are missing or forbidden. Not safe to be changed by two threads at a time."""

    def __init__(self) -> None:
        self._known: OrderedDict[Box, Refusal] = OrderedDict()

    def __contains__(self, chunk: Box) -> bool:
        return chunk in self._known

    def get(self, chunk: Box) -> Refusal | None:
        """Return why a chunk was refused, None if it is not known to be."""
        return self._known.get(chunk)

    def remember(self, chunk: Box, refusal: Refusal) -> None:
        """Remember a refusal; not what was unreadable, which may be the network's doing, and pass."""
        if refusal[0] != "unreadable":
            self._known[chunk] = refusal
            if len(self._known) > _MOST_REFUSED:
                self._known.popitem(last=False)


def chunk_error(chunk: Box, refusal: Refusal, url: str) -> ChunkError:
    """Return the error that names chunk, layer, cause and remedy."""
    cause, detail = refusal
    failure = ChunkError(f"chunk {chunk} is {cause}", where=url, got=detail, remedy=_REMEDIES[cause])
    failure.box, failure.cause = chunk, cause
    return failure
