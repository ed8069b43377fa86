"""Slices: the pages of a TIFF file, or the TIFF or PNG files of a folder, in the natural order of their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import LayerError, MissingExtraError
from voxmint.retry import FetchError
from voxmint.volumes.address import Address
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import Geometry, offset_of, voxel_size_of
from voxmint.volumes.identity import Description
from voxmint.volumes.layer import Opening

_ENDINGS = {"tiff": (".tif", ".tiff"), "png": (".png",)}
_PNG_TYPES = {"1": "|b1", "L": "|u1", "I;16": "<u2", "I;16B": ">u2", "I": "<i4"}
_BEST_RATIO, _SLACK = 1032, 1 << 16  # of deflate
_TAIL = 1 << 12


class Page(NamedTuple):
    """One slice: where it is, its rows and columns, and its type."""

    path: Path
    number: int
    shape: tuple[int, ...]
    dtype: str


class SliceLayer(ChunkedLayer):
    """Slices along z, each read when it is needed. Axes as stored are (y, x); the first row is y = 0.

    All headers are read when it is opened: slices must be of one size and type.

    Raises
    ------
    LayerError
        There are none; one is damaged, of colours, or of another size or type than the first.
    """

    def __init__(self, opening: Opening, address: Address) -> None:
        url = address.url
        if (opening.axes or "zyx").lower() != "zyx":
            raise LayerError("slices are rows and columns, one behind the other", where=url, expected="axes zyx",
                             got=opening.axes, remedy="leave the axes out").about("axes")  # fmt: skip
        pages_of, self._read = _tiff() if address.format == "tiff" else _png()
        files = [address.path]
        if address.path.is_dir():
            endings = _ENDINGS[address.format]
            names = (p for p in address.path.iterdir() if p.suffix.lower() in endings and not p.name.startswith("."))
            files = sorted(names, key=lambda path: (_natural(path.name), path.name))
        self._pages: list[Page] = []
        for file in files:
            try:
                self._pages += pages_of(file)
            except LayerError:
                raise
            except Exception as error:  # a damaged file makes the libraries raise many kinds
                raise LayerError(f"cannot be read: {type(error).__name__}: {error}", where=file,
                                 remedy="the file is damaged or of another kind: check it, or get it again",
                                 ) from error  # fmt: skip
        if not self._pages:
            raise LayerError("there are no slices", where=url, remedy="correct the path")
        first = self._pages[0]
        if odd := next((page for page in self._pages if page[2:] != first[2:]), None):
            raise LayerError("slices of different sizes or types", where=odd.path, got=f"{odd.shape} {odd.dtype}",
                             expected=f"{first.shape} {first.dtype}, as of {first.path.name}",
                             remedy="bring all slices to one size and type, or move others elsewhere")  # fmt: skip
        shape = (first.shape[1], first.shape[0], len(self._pages))
        start, dtype = offset_of(opening, None, url), np.dtype(first.dtype)
        geometry = Geometry(voxel_size_of(opening, None, url), Box.at(start, shape), (*shape[:2], 1), start,
                            dtype.newbyteorder("="))  # fmt: skip
        metadata = {"pages": len(self._pages), "shape": first.shape, "dtype": dtype.str}
        super().__init__(opening, url, geometry, Description(address.format, "array", metadata))

    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Read one slice."""
        page = self._pages[chunk.start[2] - self.bounds.start[2]]
        name = page.path.name
        try:
            found = self._read(page)
            if found.shape != page.shape or found.dtype.newbyteorder("=") != self.dtype:
                raise FetchError("unreadable", f"{name}: slice {page.number} is another by now: {found.shape}")
            return found.T[:, :, np.newaxis]
        except FileNotFoundError:
            cause, detail = "missing", f"{name} is gone"
        except PermissionError:
            cause, detail = "forbidden", f"{name} may not be read"
        except FetchError:
            raise
        except Exception as error:  # a damaged file makes the libraries raise many kinds
            cause, detail = "unreadable", f"{name}: {type(error).__name__}: {error}"
        raise FetchError(cause, detail)  # type: ignore[arg-type]


_Readers = tuple[Callable[[Path], list[Page]], Callable[[Page], NDArray[Any]]]


def _tiff() -> _Readers:
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError.for_package("tifffile", "formats") from None

    def pages_of(path: Path) -> list[Page]:
        with tifffile.TiffFile(path) as file:
            return [Page(path, number, *_grey(path, page.shape, np.dtype(page.dtype).str))
                    for number, page in enumerate(file.pages)]  # fmt: skip

    def read(page: Page) -> NDArray[Any]:
        with tifffile.TiffFile(page.path) as file:
            found = file.pages[page.number]
            # a page whose data lie beyond the end of the file would be filled with zeros
            ends = [a + n for a, n in zip(found.dataoffsets, found.databytecounts, strict=True)]
            if not ends or 0 in found.databytecounts or max(ends) > page.path.stat().st_size:
                raise FetchError("unreadable", f"{page.path.name}: the data of page {page.number} are cut")
            if tuple(found.shape) != page.shape:  # before it is unpacked to whatever it says by now
                raise FetchError("unreadable", f"{page.path.name}: page {page.number} is of another size than before")
            return np.asarray(found.asarray())

    return pages_of, read


def _png() -> _Readers:
    from PIL.PngImagePlugin import PngImageFile

    def opened(path: Path) -> Any:
        # not `Image.open`: a slice of EM may have more pixels than that takes for an attack
        return PngImageFile(path)

    def pages_of(path: Path) -> list[Page]:
        with opened(path) as image:
            if image.mode not in _PNG_TYPES:
                _grey(path, (*image.size[::-1], image.mode), "")
            dtype = _PNG_TYPES[image.mode]
            size = np.dtype(dtype).itemsize * image.size[0] * image.size[1]
            if size // 8 > path.stat().st_size * _BEST_RATIO + _SLACK:
                raise LayerError("the file claims more pixels than it can hold", where=path, got=image.size,
                                 remedy="check it, or get it again")  # fmt: skip
            return [Page(path, 0, image.size[::-1], dtype)]

    def read(page: Page) -> NDArray[Any]:
        with page.path.open("rb") as file:  # other libraries switch Pillow to filling up what is cut
            file.seek(max(0, page.path.stat().st_size - _TAIL))
            if b"IEND" not in file.read(_TAIL):
                raise FetchError("unreadable", f"{page.path.name} is cut")
        with opened(page.path) as image:
            if image.size[::-1] != page.shape:
                raise FetchError("unreadable", f"{page.path.name} is of another size than before")
            return np.asarray(image)

    return pages_of, read


def _grey(path: Path, shape: tuple[Any, ...], dtype: str) -> tuple[tuple[int, ...], str]:
    if len(shape) != 2:
        raise LayerError("not a grey-scale image", where=path, expected="rows and columns of numbers",
                         got=f"shape {shape}", remedy="convert colours and palettes to grey")  # fmt: skip
    return tuple(int(n) for n in shape), dtype


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which slice_10 follows slice_9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
