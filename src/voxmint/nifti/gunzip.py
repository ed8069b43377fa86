"""A file's bytes in order, gunzipped where it is gzip, with every way of being damaged told as an `InputError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from voxmint.errors import InputError

_MAGIC = b"\x1f\x8b"
_REMEDY = "the file is cut or damaged: copy or download it again"


@contextmanager
def gunzipped(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Give ``file`` itself, or a stream of what it unpacks to if it is gzip.

    The checksum and length of a gzip member are checked as its end is met, so read on until nothing more comes.

    Parameters
    ----------
    file : binary file
        Positioned at its start.
    path : Path
        Its name, for errors.

    Raises
    ------
    InputError
        The gzip data are damaged or cut, or something other than gzip and padding with zeros follows them.
    """
    from isal import igzip, isal_zlib

    unpack: Any = igzip.IGzipFile  # its stub has no types
    packed = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    try:
        yield unpack(fileobj=file, mode="rb") if packed else file
    except EOFError as error:
        raise InputError("the gzip data are cut, or bytes that are no gzip follow them", where=path,
                         remedy=_REMEDY) from error  # fmt: skip
    except (igzip.BadGzipFile, isal_zlib.IsalError, OverflowError) as error:  # type: ignore[misc]  # its stub gives an instance
        raise InputError(f"damaged gzip data: {error}", where=path, remedy=_REMEDY) from error
