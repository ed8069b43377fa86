"""Stores: a folder or a bucket into which whole objects are written, each appearing complete or not at all.

A local file is written beside its final name, flushed and moved; an object of ``gs://`` and ``s3://`` appears when its
upload has ended, which both promise. Nothing is ever appended to.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from voxmint.errors import MissingExtraError, StorageError
from voxmint.files import atomic_file, file_entry, user_cache
from voxmint.retry import FetchError, patiently
from voxmint.sample import JSON
from voxmint.stores.network import check_route, on_google
from voxmint.stores.secrets import Secrets, check_bucket_address, public_url, saved_secrets, scrub

# gcsfs' plain client: its default one first asks every bucket for its kind over gRPC, which proxies and emulators lack
_CLIENTS = {"gs": ("gcsfs.core", "GCSFileSystem"), "s3": ("s3fs", "S3FileSystem")}
_ATTEMPTS = 4
_PIECE = 1 << 22

Result = TypeVar("Result")


class Place:
    """A place for objects with names such as ``source/source_7.npy``.

    Safe to use from many threads, and after a fork: each process makes a client of its own.

    Parameters
    ----------
    url : str or Path
        A folder, ``file://``, ``gs://bucket/path`` or ``s3://bucket/path``. A folder is made when first written to.
    secrets : path, optional
        JSON file of credentials, instead of those in ``~/.cloudvolume/secrets`` and of the environment.

    Raises
    ------
    StorageError
        The kind of address is unknown.
    MissingExtraError
        The package for this kind of address is not installed.
    """

    def __init__(self, url: str | Path, *, secrets: str | Path | None = None) -> None:
        text = self.address = str(url)
        self.secrets = secrets
        scheme, separator, rest = text.partition("://")
        self._secrets: Secrets | None = None
        self._client: Any = None
        if not separator or scheme == "file":
            self._base = str(Path(unquote(rest) if separator else text).expanduser().absolute())
            self.url = self._base
            return
        if scheme not in _CLIENTS:
            raise StorageError("unknown kind of address", where=public_url(text), got=f"{scheme}://",
                               expected="a folder, gs:// or s3://", remedy="correct the address")  # fmt: skip
        check_bucket_address(text)
        self._base, self.url = rest.strip("/"), public_url(text).rstrip("/")
        bucket = self._base.partition("/")[0]
        self._secrets = Secrets.load(secrets) if secrets else saved_secrets(scheme, bucket)
        self._scheme = scheme
        self._route("cannot be reached")
        self._client, self._process = _file_system(scheme, self._secrets), os.getpid()

    @property
    def _system(self) -> Any:
        """The bucket's client, None for a folder."""
        if self._client is not None and self._process != os.getpid():  # no client survives a fork
            self._client, self._process = _file_system(self._scheme, self._secrets), os.getpid()
        return self._client

    @property
    def is_local(self) -> bool:
        """Whether it is a folder."""
        return self._system is None

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write an object, replacing one of that name in one step.

        Raises
        ------
        StorageError
            It cannot be written, with the place and how many bytes were at stake; the old object is whole.
        """
        path = self._path(name)
        if self._system is None:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"cannot make the folder: {error.strerror}", where=Path(path).parent,
                                   remedy="choose a folder that can be written") from error  # fmt: skip
            with atomic_file(path) as file:
                file.write(data)
            return
        self._ask(f"cannot write {len(data):,} bytes", name, lambda: self._system.pipe_file(path, bytes(data)))

    def read(self, name: str) -> bytes:
        """Return an object's bytes; raise `StorageError` when there is none or it cannot be read."""
        path = self._path(name)
        if self._system is None:
            return self._ask("cannot read", name, Path(path).read_bytes)
        return bytes(self._ask("cannot read", name, lambda: self._system.cat_file(path)))

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Return bytes ``start`` to ``stop`` (excluded) of an object; raise `StorageError` as `read` does."""
        path = self._path(name)

        def part() -> bytes:
            with Path(path).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)

        if self._system is None:
            return self._ask("cannot read", name, part)
        return bytes(self._ask("cannot read", name, lambda: self._system.cat_file(path, start=start, end=stop)))

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of an object, piece by piece of the object."""
        if self._system is None:
            with Path(self._path(name)).open("rb") as file:
                yield from file
            return
        place, rest = 0, b""
        size = self.size(name) or 0
        while place < size:
            piece = self.read_part(name, place, min(size, place + _PIECE))
            place += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest

    def size(self, name: str) -> int | None:
        """Return the bytes of an object, None if there is none."""
        path = self._path(name)
        if self._system is None:
            return Path(path).stat().st_size if Path(path).is_file() else None

        def look() -> int | None:
            try:
                about = self._system.info(path)
            except FileNotFoundError:
                return None
            return int(about["size"]) if about["type"] == "file" else None

        return self._ask("cannot look", name, look)

    @property
    def home(self) -> Path:
        """The local folder of records and state: the folder itself; for a bucket one in the cache, by its address.

        ``VOXMINT_STATE`` names the folder in which those of buckets lie, else the user's cache.
        """
        if self._system is None:
            return Path(self._base)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.url)[-80:]
        return user_cache("VOXMINT_STATE", "runs") / f"{name}-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"

    def exists(self, name: str) -> bool:
        """Tell whether there is an object of that name; being refused is an error, not an answer."""
        path = self._path(name)
        if self._system is None:
            return Path(path).is_file()

        def look() -> bool:
            try:
                return bool(self._system.info(path)["type"] == "file")
            except FileNotFoundError:
                return False

        return self._ask("cannot look", name, look)

    def list(self, prefix: str = "") -> list[str]:
        """Return the names of all objects below ``prefix`` (a folder's name), sorted."""
        path = self._path(prefix) if prefix else self._base
        if self._system is None:
            files = (file for file in Path(path).rglob("*") if file.is_file() and not file.name.endswith(".part"))
            return sorted(file.relative_to(self._base).as_posix() for file in files)
        found = self._ask("cannot list", prefix, lambda: self._system.find(path))
        return sorted(posixpath.relpath(file, self._base) for file in found)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all objects by name: of a bucket in few requests, not one an object."""
        if self._system is None:
            return {name: self.size(name) or 0 for name in self.walk()}
        found = self._ask("cannot list", "", lambda: self._system.find(self._base, detail=True))
        return {posixpath.relpath(file, self._base): int(about["size"]) for file, about in found.items()}

    def walk(self, folder: str = "") -> Iterator[str]:
        """Yield the names of all objects below a folder, in no order and never all at once; as `list` gives them."""
        if self._system is not None:
            yield from self.list(folder)
            return
        for parent, _, names in os.walk(Path(self._base) / folder):
            for name in names:
                if not name.endswith(".part"):
                    yield (Path(parent) / name).relative_to(self._base).as_posix()

    def entry(self, name: str) -> JSON:
        """Return the manifest's entry of an object: name, size and SHA-256."""
        if self._system is None:
            return file_entry(Path(self._base), Path(self._path(name)))
        data = self.read(name)
        return {"file": name, "bytes": len(data), "covers": "file", "sha256": hashlib.sha256(data).hexdigest()}

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        path = self._path(name)
        if self._system is None:
            return self._ask("cannot remove", name, lambda: Path(path).unlink(missing_ok=True))
        if self.exists(name):
            self._ask("cannot remove", name, lambda: self._system.rm_file(path))
        return None

    def _path(self, name: str) -> str:
        parts = name.split("/")
        if not name or name.startswith("/") or ".." in parts or "" in parts:
            raise StorageError("not a name inside the store", where=self.url, got=repr(name),
                               expected="names without '..' and without a leading '/'")  # fmt: skip
        return f"{self._base}/{name}"

    def _route(self, what: str) -> None:
        try:
            check_route(self._scheme, self._base.partition("/")[0])
        except FetchError as error:
            detail = error.detail
        else:
            return
        raise StorageError(what, where=self.url, got=detail,
                           remedy="check the network, then run the same command again")  # fmt: skip

    def _ask(self, what: str, name: str, action: Callable[[], Result]) -> Result:
        def attempt() -> Result:
            try:
                return action()
            except Exception as error:  # of any client below
                found = isinstance(error, FileNotFoundError)
                refused = isinstance(error, PermissionError) or _refused(error)
                text = f"{type(error).__name__}: {error}"
            text = self._secrets.scrub(text) if self._secrets else scrub(text)
            raise FetchError("missing" if found else "forbidden" if refused else "unreadable", text)

        try:
            return patiently(attempt, 1 if self._system is None else _ATTEMPTS)
        except FetchError as error:
            detail, cause = error.detail, error.cause
        remedies = {"missing": "correct the name", "forbidden": "give credentials that may do this (a secrets file)",
                    "unreadable": "check the address and the network, then run the same command again"}  # fmt: skip
        raise StorageError(what, where=f"{self.url}/{name}".rstrip("/"), got=detail, remedy=remedies[cause])

    def __repr__(self) -> str:
        return f"Place({self.url!r})"


def _refused(error: Exception) -> bool:
    code = getattr(error, "code", None) or getattr(error, "status", None)
    return code in (401, 403)


def _has_google_credentials() -> bool:
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    known = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return bool(known) or (Path(folder) / "application_default_credentials.json").is_file() or on_google()


def _file_system(scheme: str, secrets: Secrets | None) -> Any:
    module, name = _CLIENTS[scheme]
    try:
        client = getattr(importlib.import_module(module), name)
    except ImportError:
        raise MissingExtraError.for_package(module.partition(".")[0], "cloud") from None
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        values = secrets.values if secrets else {}
        options |= {
            "key": values.get("AWS_ACCESS_KEY_ID"),
            "secret": values.get("AWS_SECRET_ACCESS_KEY"),
            "token": values.get("AWS_SESSION_TOKEN") or None,
        }
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        options["client_kwargs"] = {"endpoint_url": endpoint} if endpoint else {}
    elif secrets is not None:
        options["token"] = str(secrets.path)
    else:  # found here, since gcsfs asks for a server of credentials for minutes where there is none
        emulated = os.environ.get("STORAGE_EMULATOR_HOST")
        options["token"] = "anon" if emulated or not _has_google_credentials() else None
    return client(**options)
