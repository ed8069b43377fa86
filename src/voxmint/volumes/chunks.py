"""What all layers share: a grid of chunks, fetched concurrently, patiently, once each, and never made up."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import ChunkError, LayerError
from voxmint.retry import FetchError, patiently
from voxmint.sample import JSON
from voxmint.volumes.box import Box, Voxels
from voxmint.volumes.geometry import Geometry
from voxmint.volumes.identity import Description, identity_of
from voxmint.volumes.kept import ABSENT, Chunk, KeptChunks, chunk_of
from voxmint.volumes.layer import CONCURRENCY, Cutout, Opening
from voxmint.volumes.pieces import Pieces
from voxmint.volumes.refused import RefusedChunks, chunk_error
from voxmint.volumes.shared_chunks import SharedChunks

_Part = Chunk | Future[Chunk]


class ChunkedLayer(ABC):
    """A layer read chunk by chunk; a subclass says how one chunk is fetched. See `voxmint.volumes.layer.Layer`.

    Threads of its own fetch; each chunk in flight is fetched once, whoever waits for it, and is then kept as long as
    the cache has room, the longest unused leaving first. That a chunk is missing or forbidden is remembered as long as
    the layer is open, so that it is not asked for again by every crop that touches it; what was unreadable is.

    Parameters
    ----------
    opening : Opening
        What the layer was opened with.
    url : str
        Where it lies, without secrets.
    geometry : Geometry
        Its grid.
    description : Description
        What it is, besides.
    background : int or float
        Value of an absent chunk, if the layer is declared sparse.
    """

    def __init__(
        self, opening: Opening, url: str, geometry: Geometry, description: Description, *, background: Any = 0
    ) -> None:
        self.url, self.geometry, self.description = url, geometry, description
        self._opening, self._background = opening, background
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(opening.concurrency, thread_name_prefix="voxmint-layer")
        self._lock = threading.Lock()
        self._flying: dict[Voxels, Future[Chunk]] = {}  # by first voxel, as those kept
        self._kept = KeptChunks(opening.cache_bytes)
        self._refused = RefusedChunks()
        self._shared = SharedChunks(Path(opening.shared), geometry.dtype) if opening.shared else None
        self.fetched = 0
        """Chunks fetched so far, or taken from another process, for measurements."""

    @abstractmethod
    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Return one chunk, axes (x, y, z); raise `FetchError` when that fails. Called from many threads."""

    def begin(self, chunk: Box) -> Future[NDArray[Any]] | None:  # noqa: ARG002
        """Start one attempt at a chunk and return at once, if the reader can without a thread that waits.

        The future must end, and raise what `fetch` raises. What follows a failure is left to `fetch`, in a thread.
        """
        return None

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Size of a voxel in nm."""
        return self.geometry.voxel_size_nm

    @property
    def bounds(self) -> Box:
        """All voxels there are."""
        return self.geometry.bounds

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return self.geometry.dtype

    @property
    def chunk_shape(self) -> Voxels:
        """Voxels that are fetched together."""
        return self.geometry.chunk_shape

    def chunks_of(self, box: Box) -> list[Box]:
        """Return the chunks that a read of ``box`` fetches."""
        return self.geometry.chunks_of(box)

    def read(self, box: Box) -> Cutout:
        """Read a box; see `Layer.read`."""
        cutout = self.submit(box).result()
        return Cutout(cutout.array, cutout.valid, cutout.reads)  # holds no chunks

    def submit(self, box: Box) -> Future[Cutout]:
        """Start reading a box and return at once."""
        chunks = self.chunks_of(box)
        parts = self._start(chunks)
        whole: Future[Cutout] = Future()
        flying = [part for part in parts if isinstance(part, Future)]
        left, lock = len(flying), threading.Lock()

        def arrived(_: object) -> None:
            nonlocal left
            with lock:
                left -= 1
                if left:
                    return
            self._complete(whole, box, chunks, parts)

        if not flying:
            self._complete(whole, box, chunks, parts)
        for part in flying:
            part.add_done_callback(arrived)
        return whole

    def read_many(
        self, boxes: Iterable[Box], concurrency: int = CONCURRENCY
    ) -> Iterator[tuple[int, Cutout | ChunkError]]:
        """Read many boxes, yielding them as they come; see `Layer.read_many`."""
        waiting: dict[Future[Cutout], int] = {}
        for number, box in enumerate(boxes):
            # boxes that wait for chunks in flight cost nothing, but their results must not pile up either
            while waiting and (len(self._flying) >= concurrency or len(waiting) >= 2 * concurrency):
                yield from _take_finished(waiting)
            waiting[self.submit(box)] = number
        while waiting:
            yield from _take_finished(waiting)

    def traffic(self) -> tuple[int, int] | None:
        """Return how often stored objects were read until now, and their bytes as stored; None where not counted."""
        return None

    def spec(self) -> JSON:
        """Return the arguments of `open_layer` that open this layer again."""
        return self._opening.to_json()

    def identity(self) -> JSON:
        """Return what names this layer in a recipe; see `Layer.identity`."""
        return identity_of(self.url, self.description, self.geometry, self._opening)

    def close(self) -> None:
        """Drop the cache and the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            flying = list(self._flying.values())
        wait(flying)
        with self._lock:
            self._kept.clear()
        if self._shared is not None:
            self._shared.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self.voxel_size_nm} nm, {self.bounds}, {self.dtype})"

    def _start(self, chunks: list[Box]) -> list[_Part]:
        """Return each chunk, or what will be it."""
        if os.getpid() != self._process:  # its threads did not come along: waiting for them would never end
            raise LayerError("the layer was opened before this process was forked", where=self.url,
                             remedy="open it in each process, from its spec")  # fmt: skip
        parts: list[_Part] = []
        new: list[tuple[Box, Future[Chunk]]] = []
        with self._lock:
            for chunk in chunks:
                part = self._kept.get(chunk.start)
                if part is not None:
                    parts.append(part)
                    continue
                if chunk.start not in self._flying:
                    self._flying[chunk.start] = Future()
                    new.append((chunk, self._flying[chunk.start]))
                parts.append(self._flying[chunk.start])
        for chunk, flying in new:
            self._launch(chunk, flying)
        return parts

    def _launch(self, chunk: Box, flying: Future[Chunk]) -> None:
        """Begin without a thread where that can be: a thread a chunk would have to wait its turn for each step."""
        try:
            begun = None if self._shared is not None or chunk in self._refused else self.begin(chunk)
        except BaseException as error:  # else those who wait for the chunk would for ever
            self._end(chunk, flying, error)
            return
        if begun is None:
            self._hand_over(chunk, flying)
            return
        with self._lock:
            self.fetched += 1
        begun.add_done_callback(partial(self._landed, chunk, flying))

    def _landed(self, chunk: Box, flying: Future[Chunk], begun: Future[NDArray[Any]]) -> None:
        try:
            found = chunk_of(chunk, self._checked(begun.result(), chunk))
        except FetchError as error:
            self._hand_over(chunk, flying, error)
        except BaseException as error:  # the future's owner gets it
            self._end(chunk, flying, error)
        else:
            self._end(chunk, flying, found)

    def _hand_over(self, chunk: Box, flying: Future[Chunk], failure: FetchError | None = None) -> None:
        try:
            work = self._pool.submit(self._load, chunk, flying, failure)
        except RuntimeError as error:  # the layer was closed
            self._end(chunk, flying, error)
            return
        work.add_done_callback(lambda work: self._end(chunk, flying, CancelledError()) if work.cancelled() else None)

    def _load(self, chunk: Box, flying: Future[Chunk], failure: FetchError | None) -> None:
        try:
            found = self._fetch_once(chunk, failure)
        except BaseException as error:  # the future's owner gets it
            self._end(chunk, flying, error)
        else:
            self._end(chunk, flying, found)

    def _end(self, chunk: Box, flying: Future[Chunk], outcome: Chunk | BaseException) -> None:
        with self._lock:
            self._flying.pop(chunk.start)
            if not isinstance(outcome, BaseException):
                self._kept.keep(chunk.start, outcome)
        if isinstance(outcome, BaseException):
            flying.set_exception(outcome)
        else:
            flying.set_result(outcome)

    def _fetch_once(self, chunk: Box, first: FetchError | None) -> Chunk:
        """Fetch patiently; ``first`` is how a first attempt ended, if there was one."""
        with self._lock:
            known = self._refused.get(chunk)
            self.fetched += known is None and first is None
        if known is None:
            try:
                fetch = _after(first, partial(self._fetch_whole, chunk))
                if self._shared is not None:
                    fetch = partial(self._shared.get, chunk, fetch)
                spent = first.seconds if first is not None else 0.0
                return chunk_of(chunk, patiently(fetch, self._opening.attempts, self._opening.patience, spent))
            except FetchError as error:
                known = error.cause, error.detail
            with self._lock:
                self._refused.remember(chunk, known)
        if known[0] == "missing" and self._opening.sparse:
            return chunk_of(chunk, np.full(chunk.shape, self._background, self.dtype, order="F"), ABSENT)
        raise chunk_error(chunk, known, self.url)

    def _fetch_whole(self, chunk: Box) -> NDArray[Any]:
        return self._checked(self.fetch(chunk), chunk)

    def _checked(self, array: NDArray[Any], chunk: Box) -> NDArray[Any]:
        if array.shape != chunk.shape:
            raise FetchError("unreadable", f"the chunk holds {array.shape} voxels, not {chunk.shape}")
        return np.asarray(array, self.dtype)

    def _complete(self, whole: Future[Cutout], box: Box, chunks: list[Box], parts: list[_Part]) -> None:
        try:
            found = [part.result() if isinstance(part, Future) else part for part in parts]
        except BaseException as error:  # the future's owner gets it
            whole.set_exception(error)
        else:
            whole.set_result(Pieces(box, self.bounds, chunks, found, self.dtype))
        parts.clear()  # a future would hold itself through its callback, and its chunk until garbage is collected


def _after(failure: FetchError | None, action: Callable[[], NDArray[Any]]) -> Callable[[], NDArray[Any]]:
    """Return an action whose first attempt has failed already."""
    failures = [] if failure is None else [failure]

    def attempt() -> NDArray[Any]:
        if failures:
            raise failures.pop()
        return action()

    return attempt


def _take_finished(waiting: dict[Future[Cutout], int]) -> Iterator[tuple[int, Cutout | ChunkError]]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        number = waiting.pop(future)
        error = future.exception()
        if error is not None and not isinstance(error, ChunkError):
            raise error
        yield number, future.result() if error is None else error
