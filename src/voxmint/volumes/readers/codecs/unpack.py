"""Unpacking what a server or a shard holds packed, never to more than was asked for."""

from __future__ import annotations

import zlib
from typing import Any

from voxmint.retry import FetchError

_ZSTD_WINDOW = 1 << 27
_ZSTD_STEP = 256  # bytes, which cannot become more than some MB


def unpacked(data: bytes, packing: str, most: int, name: str) -> bytes:
    """Return unpacked bytes.

    Parameters
    ----------
    data : bytes
        Packed.
    packing : str
        As HTTP's ``Content-Encoding`` names it: gzip, deflate, br, zstd, or nothing.
    most : int
        Bytes that it may unpack to.
    name : str
        Of the object, for errors.

    Raises
    ------
    FetchError
        It is cut or damaged, unpacks to more, or is packed in another way.
    """
    packing = packing.strip().lower()
    if packing in ("", "identity"):
        return data
    try:
        whole: bytes | None = _MEMBERS[packing](data, most) if packing in _MEMBERS else None
    except ImportError:
        detail = f"{name} is packed as {packing!r}: pip install 'voxmint[cloud]' to unpack it"
    except Exception as error:  # of any of the libraries below
        detail = f"{name}: damaged {packing} data: {type(error).__name__}: {error}"
    else:
        if whole is not None and len(whole) <= most:
            return whole
        detail = f"{name} unpacks to more than the {most} bytes that it can have"
        packing_known, whole = whole is not None, None  # an error would hold it
        if not packing_known:
            detail = f"{name} is packed as {packing[:40]!r}, which is unknown here"
    raise FetchError("unreadable", detail)


def _gzip(data: bytes, most: int) -> bytes:
    from isal import isal_zlib

    parts, size, rest = [], 0, data
    while rest:  # members may follow each other
        member = isal_zlib.decompressobj(wbits=31)
        part = member.decompress(rest, most - size + 1)
        parts.append(part)
        size += len(part)
        if size > most:
            break
        if not member.eof:
            raise EOFError("it ends too early")
        rest = member.unused_data.lstrip(b"\0")
    if not parts:
        raise EOFError("it is empty")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _deflate(data: bytes, most: int) -> bytes:
    member = zlib.decompressobj(15 if data[:1] and data[0] & 15 == 8 else -15)  # many servers leave the header out
    return _ended(member.decompress(data, most + 1), most, member.eof)


def _brotli(data: bytes, most: int) -> bytes:
    import brotli

    member, parts, size = brotli.Decompressor(), [], 0
    view = data
    while size <= most and not member.is_finished():
        part = member.process(view, output_buffer_limit=most - size + 1)
        view = b""
        parts.append(part)
        size += len(part)
        if not part and member.can_accept_more_data():
            break
    return _ended(b"".join(parts), most, member.is_finished())


def _zstd(data: bytes, most: int) -> bytes:
    import zstandard

    parts, size, at = [], 0, 0
    while at < len(data):  # frames may follow each other
        member = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        while at < len(data) and not member.eof:
            part = member.decompress(data[at : at + _ZSTD_STEP])  # knows no bound but by what it is given
            at += _ZSTD_STEP
            parts.append(part)
            size += len(part)
            if size > most:
                return b"".join(parts)
        at = min(at, len(data)) - len(member.unused_data)
    return _ended(b"".join(parts), most, member.eof if data else False)


def _ended(whole: bytes, most: int, ended: bool) -> bytes:
    if not ended and len(whole) <= most:
        raise EOFError("it ends too early")
    return whole


_MEMBERS: dict[str, Any] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
