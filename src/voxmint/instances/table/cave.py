"""Tables of a CAVE, through ``caveclient``: pinned to a materialization version, whole, and in the order of their ids.

A query returns some of the rows that match, in no order, and at most as many as the server's limit. So rows are asked
for by ranges of ids small enough that all of a range come, and are counted in the end against what the server says that
the table has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from voxmint.errors import InputError, MissingExtraError
from voxmint.instances.table.fetched import Fetched
from voxmint.retry import FetchError, patiently
from voxmint.stores.secrets import Secrets, public_url, scrub
from voxmint.volumes.readers.time_limit import in_time

PAGE = 100_000
"""Rows asked for at a time, half of what the usual server gives at the most."""
_ATTEMPTS = 3
_LARGEST_ID = (1 << 63) - 1
_MOST_BYTES = 1 << 30
_FORM = "cave://DATASTACK/TABLE?version=N, and &server=https://HOST where that is not the usual one"


def fetch_cave(source: str, secrets: str | Any | None, patience: float) -> Fetched:
    """Read a whole table; see `voxmint.instances.table.sources.fetched`."""
    parts = urlsplit(source)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    datastack, table, version = parts.netloc, parts.path.strip("/"), options.get("version")
    where = f"cave://{datastack}/{table}" + (f"?version={version}" if version else "")
    if not datastack or not table or "/" in table or "@" in datastack or options.keys() - {"version", "server"}:
        raise InputError("not the address of a table of a CAVE", where=public_url(source), expected=_FORM,
                         remedy="correct --table; give the token as --secrets")  # fmt: skip
    if version is not None and not (version.isdecimal() and int(version) > 0):
        raise InputError("not a materialization version", where=where, got=version, expected=_FORM)
    server = options.get("server")
    if server is not None and not server.startswith(("http://", "https://")):
        raise InputError("not the address of a server", where=where, got=public_url(server), expected=_FORM)
    table_of = _Table(datastack, table, None if version is None else int(version), server, where, secrets, patience)
    return table_of.fetched()


class _Table:
    """One table at one version."""

    def __init__(
        self, datastack: str, table: str, version: int | None, server: str | None, where: str, secrets: Any,
        patience: float,
    ) -> None:  # fmt: skip
        try:
            from caveclient import CAVEclient
        except ImportError:
            raise MissingExtraError.for_package("caveclient", "cave") from None
        self._secrets = Secrets.load(secrets) if secrets else None
        token = str(self._secrets.values.get("token") or "") if self._secrets else ""
        self.where, self._patience, self._name = where, patience, table
        logging.getLogger("caveclient").setLevel(logging.ERROR)  # it warns of each limited query

        def connect() -> Any:
            client = CAVEclient(datastack, server_address=server, auth_token=token or None, max_retries=0,
                                write_server_cache=False, version=version)  # fmt: skip
            engine = client.materialize
            _bound(engine.session)
            return engine

        self._client = self._asked(connect)
        if version is None:
            newest = self._asked(lambda: self._client.most_recent_version())
            raise InputError("a CAVE changes as it is proofread", where=where, expected="a materialization version",
                             remedy=f"add ?version={newest} (the newest) to --table")  # fmt: skip
        self._version = version

    def fetched(self) -> Fetched:
        """Read all rows; each page is a part."""
        about = self._asked(lambda: self._client.get_table_metadata(self._name, version=self._version,
                                                                    log_warning=False))  # fmt: skip
        count = int(self._asked(lambda: self._client.get_annotation_count(self._name, version=self._version)))
        size = _voxel_size(about.get("voxel_resolution"))
        found, rows, largest = self._all(PAGE, size)
        if rows < count and 1 < largest < PAGE:  # the server's own limit is lower: now ranges cut by it are seen so
            found, rows, _ = self._all(largest, size)
        if rows != count:
            raise InputError("the CAVE does not give all rows of the table", where=self.where, got=f"{rows:,}",
                             expected=f"{count:,} rows, as it says itself",
                             remedy="ask who runs it, or export the table to a file")  # fmt: skip
        if not count:
            raise InputError("the table has no rows", where=self.where, expected="one row an instance")
        found.about = {"cave": self.where, "server": public_url(str(self._client.server_address)),
                       "materialization_version": self._version, "rows": rows}  # fmt: skip
        return found

    def _all(self, page: int, size: tuple[float, float, float] | None) -> tuple[Fetched, int, int]:
        """Return what all pages gave, how many rows, and how many came at once."""
        import pyarrow as pa

        found, rows, largest = Fetched(self.where, "cave", size), 0, 0
        for frame in self._pages(page):
            largest, rows = max(largest, len(frame)), rows + len(frame)
            if len(frame):
                found.write(pa.Table.from_pandas(frame, preserve_index=False))
        return found, rows, largest

    def _pages(self, page: int) -> Iterator[Any]:
        """Yield all rows by ranges of ids, in order; a range that may have been cut is halved."""
        low, width = 0, page
        while low <= _LARGEST_ID:
            high = min(low + width - 1, _LARGEST_ID)
            frame = self._range(low, high, page)
            if len(frame) >= page and high > low:
                width = max(1, (high - low + 1) // 2)
                continue
            yield frame
            low = high + 1
            if len(frame) < page // 4:
                if not len(self._range(low, _LARGEST_ID, 1)):
                    return
                width *= 2 if len(frame) else 64

    def _range(self, low: int, high: int, most: int) -> Any:
        asked = {"filter_greater_equal_dict": {"id": low}, "filter_less_equal_dict": {"id": high}, "limit": most,
                 "materialization_version": self._version, "split_positions": True, "metadata": False,
                 "log_warning": False}  # fmt: skip
        frame = self._asked(lambda: self._client.query_table(self._name, **asked))
        if len(frame):
            ids = frame["id"].astype("int64")
            if int(ids.min()) < low or int(ids.max()) > high or ids.duplicated().any():
                raise InputError("the CAVE gives other rows than were asked for", where=self.where,
                                 expected=f"distinct ids of {low} to {high}",
                                 got=f"{len(ids):,} of {ids.min()} to {ids.max()}",
                                 remedy="export the table to a file")  # fmt: skip
            frame = frame.iloc[ids.argsort(kind="stable")].reset_index(drop=True)
        return frame

    def _asked(self, question: Callable[[], Any]) -> Any:
        def attempt() -> Any:
            try:
                return in_time(question)
            except (FetchError, InputError):
                raise
            except Exception as error:  # of the client and of all below it
                text = f"{type(error).__name__}: {error}"
                status = getattr(getattr(error, "response", None), "status_code", None)
                status = 404 if status is None and "is not available" in text else status
            text = (self._secrets.scrub(text) if self._secrets else scrub(text))[:600]
            cause = {401: "forbidden", 403: "forbidden", 404: "missing"}.get(status or 0, "unreadable")
            raise FetchError(cause, text)  # type: ignore[arg-type]

        try:
            return patiently(attempt, _ATTEMPTS, self._patience)
        except FetchError as error:
            remedies = {"missing": "check datastack, table and version in --table",
                        "forbidden": "give a token that may read it: --secrets, a JSON file with a token"}  # fmt: skip
            raise InputError(f"the table is {error.cause}", where=self.where, got=error.detail,
                             remedy=remedies.get(error.cause, "try again later")) from None  # fmt: skip


def _bound(session: Any) -> None:
    """Have a session of requests keep no answer beyond a bound."""
    send = session.send

    def bounded(request: Any, **options: Any) -> Any:
        answer = send(request, **{**options, "stream": True})
        body = bytearray()
        for part in answer.iter_content(1 << 20):
            body += part
            if len(body) > _MOST_BYTES:
                answer.close()
                raise FetchError("unreadable", f"the answer has more than {_MOST_BYTES} bytes")
        answer._content = bytes(body)
        return answer

    session.send = bounded


def _voxel_size(values: Any) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(n) for n in values)
    except (TypeError, ValueError):
        return None
    return (x, y, z) if min(x, y, z) > 0 else None
