"""Objects below an address, read whole: over HTTP within bounds, elsewhere through TensorStore's key-value stores."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from voxmint.retry import PATIENCE_S, FetchError, seconds_left
from voxmint.stores.network import check_route
from voxmint.stores.secrets import Secrets, scrub
from voxmint.volumes.address import Address, parse_address
from voxmint.volumes.layer import Opening
from voxmint.volumes.readers.kvstore import context_of, kvstore_of, secrets_for
from voxmint.volumes.readers.time_limit import ATTEMPT_S
from voxmint.volumes.readers.web import Web

_MOST_LISTED = 1 << 24


class Objects:
    """The objects of a folder.

    Attributes
    ----------
    url : str
        Where they lie, without secrets.
    lists : bool
        Whether their names can be asked for.
    """

    url: str
    lists: bool

    def __init__(self, address: Address, secrets: Secrets | None, opening: Opening) -> None:
        import tensorstore

        self._tensorstore, self._secrets, self.url = tensorstore, secrets, address.url
        self._context = tensorstore.Context(context_of(opening, address, secrets, 0))
        self._spec, self._store = kvstore_of(address, secrets), None
        self.lists, self._web = address.scheme not in ("http", "https"), None
        if not self.lists:
            self._web = Web(address.private_url, address.query, secrets, patience=opening.patience)

    @classmethod
    def at(cls, source: str, secrets: str | Path | None = None, patience: float = PATIENCE_S) -> Objects:
        """Return those at an address of a layer.

        Raises
        ------
        LayerError
            It is none.
        FetchError
            It cannot be reached.
        """
        address = parse_address(source if "://" not in source or "precomputed" in source else f"precomputed://{source}")
        opening = Opening(source, secrets=None if secrets is None else str(secrets), patience=patience)
        check_route(address.scheme, address.bucket)
        return cls(address, secrets_for(opening, address), opening)

    def below(self, key: str) -> Objects:
        """Return those of a folder below."""
        inner = copy(self)
        inner._spec, inner._store = {**self._spec, "path": f"{self._spec.get('path', '')}{key.strip('/')}/"}, None
        inner._web = None if self._web is None else self._web.below(key)
        return inner

    def sharded(self, sharding: Any) -> Objects:
        """Return those that lie in the shards of this folder, named by eight bytes; they are listed by the shards."""
        inner = copy(self)
        inner._spec = {"driver": "neuroglancer_uint64_sharded", "base": self._spec, "metadata": sharding}
        inner._store, inner._web, inner.lists = None, None, True
        return inner

    def names(self) -> list[Any]:
        """Return the names of all, in order; files of folders below are left out."""
        found = sorted(self._told(lambda: self._opened().list().result(timeout=seconds_left(10 * ATTEMPT_S))))
        if len(found) > _MOST_LISTED:
            raise FetchError("unreadable", f"{len(found):,} objects, more than are read")
        if self._spec["driver"] == "neuroglancer_uint64_sharded":
            return found
        return [name.decode() for name in found if b"/" not in name]

    def many(self, names: Sequence[Any], most: int) -> list[bytes | None]:
        """Return some objects at once, None for one that is not there.

        Raises
        ------
        FetchError
            One is forbidden or unreadable, or has more than ``most`` bytes.
        """
        if self._web is not None:
            started = [self._web.start(name, most) for name in names]
            return [self._or_none(one) for one in started]
        reading = [self._opened().read(name) for name in names]
        values = [self._told(partial(one.result, timeout=seconds_left(ATTEMPT_S))) for one in reading]
        found = [bytes(one.value) if one.state == "value" else None for one in values]
        if large := next((name for name, one in zip(names, found, strict=True) if one and len(one) > most), None):
            raise FetchError("unreadable", f"{large!r} has more than the {most} bytes that it can have")
        return found

    @staticmethod
    def _or_none(started: Any) -> bytes | None:
        try:
            return bytes(started.result())
        except FetchError as error:
            if error.cause == "missing":
                return None
            raise

    def _opened(self) -> Any:
        if self._store is None:
            opening = self._tensorstore.KvStore.open(self._spec, context=self._context)
            self._store = self._told(lambda: opening.result(timeout=ATTEMPT_S))
        return self._store

    def _told(self, action: Any) -> Any:
        try:
            return action()
        except TimeoutError:
            failure = FetchError("unreadable", "no answer in time")
        except Exception as error:  # TensorStore raises ValueError and others
            text = str(error)
            text = self._secrets.scrub(text) if self._secrets else scrub(text)
            failure = FetchError("forbidden" if "PERMISSION_DENIED" in text else "unreadable", text[:1000])
        raise failure
