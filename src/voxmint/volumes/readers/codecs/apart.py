"""Decoding in a process apart: a damaged chunk makes some decoders write where nothing of theirs is.

compresso, crackle and others trust what a chunk says of itself. Their process ends with the first chunk that they
cannot decode, so that what it may have done to its memory ends with it, and the next chunk gets a new one.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import MissingExtraError
from voxmint.retry import FetchError

TRUSTED = frozenset({"raw", "compressed_segmentation", "jpeg", "png"})
"""Decoded in this process."""
_CODECS = {"compresso": ("compresso", "compresso"), "crackle": ("crackle", "crackle-codec"),
           "png": ("pyspng", "pyspng-seunglab"), "jpeg": ("simplejpeg", "simplejpeg"),
           "fpzip": ("fpzip", "fpzip"), "kempressed": ("fpzip", "fpzip"), "zfpc": ("zfpc", "zfpc"),
           "jxl": ("imagecodecs", "imagecodecs")}  # fmt: skip
_IN_EXTRA = ("compresso", "crackle-codec", "simplejpeg")
_SECONDS = 60.0
_SPARE_BYTES = 4 << 30  # address space of Python, NumPy and the decoder's own tables


def check_codec(encoding: str, where: str) -> None:
    """Raise `MissingExtraError` that names the package of an encoding, if it is not installed."""
    module, package = _CODECS.get(encoding, ("", ""))
    found = find_spec(module) if module else None
    if module and (found is None or found.origin is None):  # a folder of that name is no package
        remedy = f"pip install {package}"
        if package in _IN_EXTRA:
            remedy += ", or pip install 'voxmint[cloud]'"
        raise MissingExtraError(f"{package} is not installed, which reads chunks of encoding {encoding}", where=where,
                                remedy=remedy)  # fmt: skip


class Decoder:
    """Decodes one chunk at a time. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, encoding: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the voxels of a chunk, axes (x, y, z).

        Raises
        ------
        FetchError
            It is damaged, of another shape or type than it should be, or takes longer than a minute.
        """
        task = {"encoding": encoding, "shape": list(shape), "dtype": dtype.str, "bytes": len(data)}
        size = prod(shape) * dtype.itemsize
        with self._lock:
            answer = self._asked(json.dumps(task).encode() + b"\n" + data, size)
        if not isinstance(answer, str):
            return np.frombuffer(answer, dtype).reshape(tuple(shape), order="F")
        raise FetchError("unreadable", f"damaged {encoding} data: {answer}")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _asked(self, task: bytes, size: int) -> bytes | str:
        process = self._process = self._process or _start()
        timer = threading.Timer(_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(task)
            process.stdin.flush()
            told = json.loads(process.stdout.readline(1 << 16) or '"the decoder broke down"')
            answer: bytes | str = process.stdout.read(size) if told is None else str(told)
            if len(answer) == size or (isinstance(answer, str) and told is not None):
                if told is not None:
                    self.close()
                return answer
        except (OSError, ValueError) as error:
            answer = f"the decoder broke down: {type(error).__name__}"
        finally:
            timer.cancel()
        self.close()
        return answer if isinstance(answer, str) else "the decoder broke down"


def decoder() -> Decoder:
    """Return the decoder of this process."""
    return _decoder_of(os.getpid())


@lru_cache(maxsize=1)
def _decoder_of(process: int) -> Decoder:
    found = Decoder()
    atexit.register(lambda: found.close() if os.getpid() == process else None)
    return found


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[4])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen([sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            env={**os.environ, "PYTHONPATH": path})  # fmt: skip


def serve() -> None:
    """Decode what comes on standard input until it ends, or until a chunk cannot be decoded."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_SPARE_BYTES, _SPARE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inward, outward = sys.stdin.buffer, sys.stdout.buffer
    while line := inward.readline():
        task = json.loads(line)
        data = inward.read(task["bytes"])
        try:
            array = _decoded(data, task["encoding"], tuple(task["shape"]), np.dtype(task["dtype"]))
        except BaseException as error:  # of any of the libraries
            outward.write(json.dumps(f"{type(error).__name__}: {str(error)[:500]}").encode() + b"\n")
            outward.flush()
            return
        outward.write(b"null\n")
        outward.write(array.tobytes(order="F"))
        outward.flush()


def _decoded(data: bytes, encoding: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    found: Any
    if encoding in ("compresso", "crackle"):
        codec = _codec(encoding)
        header = codec.header(data)
        told = header if isinstance(header, dict) else vars(header)
        claimed = (int(told["sx"]), int(told["sy"]), int(told["sz"]), int(told["data_width"]))
        if claimed != (*shape, dtype.itemsize):
            raise ValueError(f"it holds {claimed[:3]} voxels of {claimed[3]} bytes, not {shape} of {dtype.itemsize}")
        found = codec.decompress(data)
    else:
        from cloudvolume import chunks

        found = chunks.decode(data, encoding, shape=(*shape, 1), dtype=dtype)[..., 0]
    if tuple(found.shape) != shape or found.dtype.kind not in "biuf" or found.dtype.itemsize != dtype.itemsize:
        raise ValueError(f"it holds {found.shape} voxels of {found.dtype}, not {shape} of {dtype}")
    return np.asarray(found, dtype)


def _codec(name: str) -> Any:
    import importlib

    return importlib.import_module(name)
