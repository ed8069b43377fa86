"""Addresses of layers: scheme, place and format, read from what a user writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from voxmint.errors import LayerError
from voxmint.stores.secrets import check_bucket_address, public_url, scrub, without_user
from voxmint.volumes.scale_keys import leads_out

_PREFIXES = {"precomputed": "precomputed", "zarr": "zarr", "zarr2": "zarr", "zarr3": "zarr3", "n5": "n5",
             "graphene": "graphene"}  # fmt: skip
SCHEMES = ("file", "gs", "s3", "http", "https", "mem")
_FILES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".nii": "nifti",
    ".npy": "npy",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
}
_MARKS = (("info", "precomputed"), ("zarr.json", "zarr3"), (".zarray", "zarr"), ("attributes.json", "n5"),
          (".zattrs", "zarr"))  # fmt: skip
_SLICES = ("tiff", "png")
_QUOTED = {"%": "%25", "?": "%3F", "#": "%23"}
PLAIN = frozenset(_FILES.values())
"""Formats of files that are read here, without TensorStore or CloudVolume."""


@dataclass(frozen=True, repr=False)
class Address:
    """Where a layer lies and in which format.

    Attributes
    ----------
    scheme : str
        One of `SCHEMES`.
    place : str
        What follows ``scheme://``: a path, bucket and path, or host and path; without user and query.
    format : str
        ``precomputed``, ``zarr``, ``zarr3``, ``n5``, ``graphene`` or one of `PLAIN`.
    query : str
        Of an HTTP URL; may hold a token, so never shown.
    user : str
        User and password of an HTTP URL, as they stand in it; never shown.
    """

    scheme: str
    place: str
    format: str
    query: str = ""
    user: str = ""

    @property
    def url(self) -> str:
        """The address without secrets."""
        place = self.place
        if self.scheme == "file":  # what a URL would take for the end of a path is a part of it
            place = "".join(_QUOTED.get(letter, letter) for letter in place)
        return public_url(f"{self.scheme}://{place}")

    @property
    def private_url(self) -> str:
        """The address with user and password, without query: for clients, never to be shown."""
        user = quote(self.user, safe=":%")  # there may be slashes in it
        return f"{self.scheme}://{user}{'@' if user else ''}{self.place}"

    @property
    def bucket(self) -> str:
        """Bucket or host."""
        return self.place.partition("/")[0]

    @property
    def path(self) -> Path:
        """The local path of a ``file`` address."""
        return Path(self.place)

    def option(self, name: str) -> str | None:
        """Return a value of the query."""
        return parse_qs(self.query).get(name, [None])[0]

    def __repr__(self) -> str:
        return f"Address({self.url!r}, {self.format!r})"


def parse_address(source: str | Path, dataset: str | None = None) -> Address:
    """Read an address; the format is a prefix (``zarr://gs://...``), a suffix, or what a local folder holds.

    Raises
    ------
    LayerError
        The scheme is unknown, there is nothing at a local path, or it is no layer.
    """
    text, fmt = str(source), ""
    if dataset and leads_out(dataset.strip("/")):
        raise LayerError("the dataset lies outside the layer", where=public_url(text), got=f"dataset {dataset!r}",
                         expected="a name below it", remedy="correct it")  # fmt: skip
    while (head := text.partition("://"))[0] in _PREFIXES and head[1]:
        fmt, text = _PREFIXES[head[0]], head[2]
    for driver in _PREFIXES:  # neuroglancer's newer notation: the format behind a bar
        if (bare := text.removesuffix(":").removesuffix(f"|{driver}").removesuffix(f"|neuroglancer-{driver}")) != (
            text.removesuffix(":")
        ):
            fmt, text = _PREFIXES[driver], bare
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _local(Path(text).expanduser().absolute(), fmt, dataset)
    if scheme == "file":
        return _local(Path(unquote(rest)), fmt, dataset)
    if scheme not in SCHEMES:
        raise LayerError("unknown kind of address", where=public_url(text), got=f"{scheme}://",
                         expected=", ".join(f"{name}://" for name in SCHEMES), remedy="correct it")  # fmt: skip
    if scheme in ("gs", "s3"):
        check_bucket_address(f"{scheme}://{rest}")
    place, _, query = rest.partition("#")[0].partition("?")
    bare = without_user(place)
    user, place = place[: len(place) - len(bare)].removesuffix("@"), bare.rstrip("/")
    if not fmt:
        fmt = {"zarr": "zarr", "n5": "n5"}.get(Path(place).suffix[1:], "precomputed")
    if dataset:
        place = f"{place}/{dataset.strip('/')}"
    return Address(scheme, place, fmt, query, user)


def _local(path: Path, fmt: str, dataset: str | None) -> Address:
    if not path.exists():
        raise LayerError("there is nothing here", where=scrub(str(path)), remedy="correct the path")
    name = path.name.lower()
    if path.is_file():
        fmt = fmt or _FILES.get(Path(name.removesuffix(".gz")).suffix, "")
        if fmt not in PLAIN:
            raise LayerError("unknown kind of file", where=path, expected=", ".join(sorted(_FILES)),
                             got=path.suffix or "no suffix", remedy="convert it, or correct the path")  # fmt: skip
        return Address("file", str(path), fmt)
    folder = path / dataset.strip("/") if dataset else path
    if not fmt:
        fmt = next((kind for mark, kind in _MARKS if (folder / mark).is_file()), "") or _of_slices(folder)
    if not fmt:
        raise LayerError("no layer in this folder", where=folder,
                         expected="one of " + ", ".join(mark for mark, _ in _MARKS) + ", or TIFF or PNG slices",
                         remedy="correct the path; name the array inside a group as the dataset").about(
                             "dataset")  # fmt: skip
    return Address("file", str(folder), fmt)


def _of_slices(folder: Path) -> str:
    """Return the format of a folder's slices; empty if there are none."""
    found = {_FILES.get(path.suffix.lower(), "") for path in folder.glob("*")}.intersection(_SLICES)
    if len(found) > 1:
        raise LayerError("slices of two formats in one folder", where=folder, expected="TIFF or PNG files",
                         got=" and ".join(sorted(found)), remedy="move one kind elsewhere")  # fmt: skip
    return next(iter(found), "")
