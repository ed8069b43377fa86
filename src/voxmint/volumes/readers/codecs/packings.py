"""How large the codecs of an array may make a chunk, looked at before TensorStore unpacks it without a bound."""

from __future__ import annotations

import bz2
import lzma

from voxmint.retry import FetchError
from voxmint.sample import JSON
from voxmint.volumes.readers.codecs.unpack import unpacked

_BEST_RATIO = 1032  # of deflate
_HARMLESS = 64 << 20
_XZ_BYTES = 1 << 28


def check_unpacks(data: bytes, spec: JSON, most: int, name: str) -> None:
    """Raise `FetchError` where a chunk would unpack to more than it can have.

    Parameters
    ----------
    data : bytes
        The chunk as stored.
    spec : dict
        Metadata of its array.
    most : int
        Bytes that it may unpack to.
    name : str
        Of the chunk, for errors.
    """
    codecs = _codecs(spec)
    while codecs[-1:] == ["crc32c"]:  # four bytes behind what it guards
        codecs, data = codecs[:-1], data[:-4]
    if not codecs:
        return
    try:
        _unpack(codecs[-1], _body(data, spec), most, name)
    except FetchError:
        raise
    except Exception as error:  # of any of the libraries
        detail = f"{name}: damaged {codecs[-1]} data: {type(error).__name__}: {error}"
    else:
        return
    raise FetchError("unreadable", detail)


def _unpack(codec: str, body: bytes, most: int, name: str) -> None:
    if codec in ("gzip", "zlib"):
        if len(body) * _BEST_RATIO > max(most, _HARMLESS):
            unpacked(body, "gzip" if codec == "gzip" else "deflate", most, name)
    elif codec in ("bz2", "bzip2"):
        _check(len(bz2.BZ2Decompressor().decompress(body, most + 1)), most, name)
    elif codec == "xz":
        _check(len(lzma.LZMADecompressor(memlimit=_XZ_BYTES).decompress(body, most + 1)), most, name)
    elif codec == "blosc":
        _check(int.from_bytes(body[4:8], "little"), most, name)
    elif codec == "zstd":
        unpacked(body, "zstd", most, name)


def _check(size: int, most: int, name: str) -> None:
    if size > most:
        raise FetchError("unreadable", f"{name} unpacks to more than the {most} bytes that it can have")


def _codecs(spec: JSON) -> list[str]:
    if "codecs" in spec:  # zarr v3
        return [str(codec.get("name", "")) for codec in spec["codecs"]]
    if "compression" in spec:  # N5
        codec = spec["compression"]
        zlib = codec.get("type") == "gzip" and codec.get("useZlib")
        return ["zlib" if zlib else str(codec.get("type", ""))]
    return [str((spec.get("compressor") or {}).get("id", ""))]


def _body(data: bytes, spec: JSON) -> bytes:
    """Return what is packed: N5 has a header of mode, rank and shape before it."""
    if "compression" not in spec or len(data) < 4:
        return data
    mode, rank = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    return data[4 + 4 * rank + (4 if mode == 1 else 0) :]
