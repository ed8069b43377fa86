"""A file's bytes in order, gunzipped where it is gzip, with every way of being damaged told as an `InputError`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Any

from voxmint.errors import InputError

_CHUNK = 1 << 18
_SLACK = 1 << 20  # bytes tolerated after the last voxel: some writers pad
_MAGIC = b"\x1f\x8b"
_REMEDY = "the file is cut or damaged: copy or download it again"


class Unpacker:
    """Reads a plain or gzip file front to back.

    Checksums and lengths of gzip members are checked as their ends are met, so `finish` must be called.

    Parameters
    ----------
    file : binary file
        Positioned at its start.
    path : Path
        Its name, for errors.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path, self._sha = file, path, hashlib.sha256()
        self._pending = self._load(_CHUNK)
        self.packed = self._pending[:2] == _MAGIC
        self._member: Any = _new_member() if self.packed else None

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end of the file."""
        parts = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_into(self, target: memoryview) -> int:
        """Fill ``target`` as far as the file goes; return how many bytes were filled."""
        filled = 0
        while filled < len(target) and (part := self._some(min(len(target) - filled, 16 * _CHUNK))):
            target[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def finish(self) -> None:
        """Read to the end, so that the last checksum is checked.

        Raises
        ------
        InputError
            The rest is damaged, or much longer than padding is.
        """
        if self.packed and len(self.read(_SLACK)) == _SLACK:
            raise InputError("unpacks to more bytes than its header claims", where=self._path, remedy=_REMEDY)

    @property
    def digest(self) -> str:
        """The first 16 digits of the SHA-256 of the file, as far as it was read."""
        return self._sha.hexdigest()[:16]

    def _load(self, size: int) -> bytes:
        data = self._file.read(size)
        self._sha.update(data)
        return data

    def _some(self, limit: int) -> bytes:
        if self._member is None:
            part = self._pending[:limit] or self._load(limit)
            self._pending = self._pending[limit:]
            return part
        from isal import isal_zlib

        while not self._member.eof or self._next_member():
            data = self._pending or self._load(_CHUNK)
            try:
                part = self._member.decompress(data, limit)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub gives an instance
                raise InputError(f"damaged gzip data: {error}", where=self._path, remedy=_REMEDY) from error
            self._pending = self._member.unconsumed_tail
            if part:
                return bytes(part)
            if not data and not self._member.eof:
                raise InputError("the gzip data end too early", where=self._path, remedy=_REMEDY)
        return b""

    def _next_member(self) -> bool:
        """Start the member after one that ended; False at the end of the file. Zero bytes may pad the end."""
        rest = self._member.unused_data.lstrip(b"\0")
        while not rest:
            if not (rest := self._load(_CHUNK)):
                return False
            rest = rest.lstrip(b"\0")
        if len(rest) < len(_MAGIC):
            rest += self._load(_CHUNK)
        if rest[:2] != _MAGIC:
            raise InputError("bytes that are no gzip follow the gzip data", where=self._path, remedy=_REMEDY)
        self._member, self._pending = _new_member(), rest
        return True


def _new_member() -> Any:
    from isal import isal_zlib

    return isal_zlib.decompressobj(wbits=31)
