"""The TotalSegmentator archives from Zenodo: fetched so that a broken line costs nothing, checked, unpacked safely."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxmint.errors import DownloadError
from voxmint.templates.unzip import unzip

RECORDS = {"v1": 6802614, "v2": 10047292}
"""Zenodo record of each version of the data set."""
Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes in all."""
_UNPACKED = 1.15  # the archive holds compressed files, so unpacked they take little more
_LONGEST_RECORD = 4 << 20  # bytes; Zenodo's are some KB
_LONGEST_NAME = 255  # bytes
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_AGAIN = "run the same command again: what was fetched is kept and continued"


def download(
    version: str,
    out: str | Path,
    *,
    base_url: str = "https://zenodo.org",
    progress: Progress | None = None,
    retries: int = 8,
    pause: float = 1.0,
    keep_archive: bool = False,
) -> Path:
    """Fetch and unpack a version of the data set.

    Parameters
    ----------
    version : {"v1", "v2"}
    out : path
        Folder to hold it; made if missing. A part that was fetched before lies there as ``<archive>.part``.
    base_url : str
        Where the records are.
    progress : callable, optional
        Called with the bytes fetched and the bytes in all.
    retries : int
        Failures in a row without a byte of progress before giving up.
    pause : float
        Seconds before the first retry; doubled each time, up to a minute.
    keep_archive : bool
        Whether the zip file stays after it was unpacked.

    Returns
    -------
    Path
        ``<out>/totalsegmentator_<version>``, which exists only when complete; nothing is fetched when it does.

    Raises
    ------
    DownloadError
        Unknown version, no connection, too little space, a wrong checksum, or an unsafe archive.
    """
    if version not in RECORDS:
        raise DownloadError("unknown version", expected=f"one of {', '.join(RECORDS)}", got=version)
    out = Path(out)
    target = out / f"totalsegmentator_{version}"
    if os.path.isdir(target):  # noqa: PTH112 - Path.is_dir raises for some names
        return target
    line = _Line(progress, retries, pause)
    url = f"{base_url.rstrip('/')}/api/records/{RECORDS[version]}"
    archive = _archive_of(line.json(url), url)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_space(out, archive)
        path = _fetch(archive, out, line)
        unzip(path, target)
        if not keep_archive:
            path.unlink()
    except (OSError, ValueError) as error:  # the second: no name in this file system's encoding
        if isinstance(error, DownloadError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"cannot store the download: {reason}", where=out, remedy=_AGAIN) from error
    return target


def _archive_of(record: Any, url: str) -> dict[str, Any]:
    try:
        archives = [file for file in record["files"] if file["key"].endswith(".zip")]
        found = max(archives, key=lambda file: file["size"])
        kind, md5 = found["checksum"].split(":")
        archive = {
            "name": _file_name(found["key"]),
            "size": int(found["size"]),
            "md5": md5,
            "url": found["links"]["self"],
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DownloadError("the record's metadata are not what was expected", where=url, got=repr(error),
                            expected="a list of files with key, size, md5 checksum and link",
                            remedy="download the archive by hand and unzip it") from error  # fmt: skip
    if kind != "md5" or not re.fullmatch("[0-9a-f]{32}", md5):
        raise DownloadError("the record has no md5 checksum", where=url, got=found["checksum"])
    return archive


def _file_name(key: str) -> str:
    name = Path(key).name
    if len(os.fsencode(name)) + len(".part") > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"no name for a file: {name[:50]!r}")
    return name


def _check_space(out: Path, archive: dict[str, Any]) -> None:
    there = sum(path.stat().st_size for suffix in ("", ".part") if (path := out / (archive["name"] + suffix)).exists())
    needed = max(0, archive["size"] - there) + int(_UNPACKED * archive["size"])
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DownloadError("not enough free space for the archive and what it unpacks to", where=out,
                            expected=f"{needed / 1e9:.1f} GB", got=f"{free / 1e9:.1f} GB free",
                            remedy="free space, or give a folder on another disk")  # fmt: skip


def _fetch(archive: dict[str, Any], out: Path, line: _Line) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    md5 = archive["md5"]

    def continue_part(url: str, output_file: str, _pooch: Any) -> None:
        part = out / (archive["name"] + ".part")
        line.fetch(url, part, archive["size"])
        part.replace(output_file)

    try:
        return Path(pooch.retrieve(archive["url"], f"md5:{md5}", archive["name"], out, downloader=continue_part))
    except ValueError as error:
        got = re.search(r"but got\s+['\"]?([0-9a-f]{32})", str(error))
        raise DownloadError("the download does not match its published checksum and was removed", where=archive["url"],
                            expected=f"md5 {md5}", got=f"md5 {got[1]}" if got else str(error),
                            remedy="run the same command again; if it fails again, tell the data's publisher",
                            ) from error  # fmt: skip


class _Line:
    """Requests with bounded retries; a file is continued where it stopped."""

    def __init__(self, progress: Progress | None, retries: int, pause: float) -> None:
        self._progress, self._retries, self._pause = progress, retries, pause

    def json(self, url: str) -> Any:
        """Return the JSON document at ``url``."""
        import requests

        failures = 0
        while True:
            try:
                with requests.get(url, stream=True, timeout=_TIMEOUT) as answer:
                    _check_status(answer, url)
                    text = b""
                    for chunk in answer.iter_content(1 << 16):
                        text += chunk
                        if len(text) > _LONGEST_RECORD:
                            raise DownloadError("the record's metadata are too long", where=url,
                                                expected=f"at most {_LONGEST_RECORD:,} bytes")  # fmt: skip
                    return json.loads(text)
            except (requests.RequestException, _TryAgainError) as error:
                failures += 1
                self._wait(failures, error, url)
            except (ValueError, RecursionError) as error:  # also of its encoding, and of nesting
                raise DownloadError("the answer is no JSON", where=url, got=str(error)) from error

    def fetch(self, url: str, part: Path, size: int) -> None:
        """Append to ``part`` until it has ``size`` bytes."""
        import requests

        if part.exists() and part.stat().st_size > size:
            part.unlink()
        failures = 0
        while (have := part.stat().st_size if part.exists() else 0) < size:
            try:
                self._append(url, part, have, size)
                error: Exception = _TryAgainError("the connection ended early")
            except (requests.RequestException, _TryAgainError) as failure:
                error = failure
            now = part.stat().st_size if part.exists() else 0
            if now < size:
                failures = 1 if now > have else failures + 1
                self._wait(failures, error, url)

    def _append(self, url: str, part: Path, have: int, size: int) -> None:
        import requests

        headers = (
            {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
        )
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            _check_status(answer, url)
            # a server that does not know ranges sends all of it again
            continued = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            )
            written = have if continued else 0
            with part.open("ab" if continued else "wb") as file:
                for chunk in answer.iter_content(1 << 16):  # a break loses what of a chunk has come
                    written += len(chunk)
                    if written > size:
                        raise DownloadError("the server sends more bytes than the record claims", where=url,
                                            expected=size, got=f"at least {written}")  # fmt: skip
                    file.write(chunk)
                    if self._progress is not None:
                        self._progress(written, size)

    def _wait(self, failures: int, error: Exception, url: str) -> None:
        if failures > self._retries:
            raise DownloadError(f"no connection after {failures} attempts", where=url, got=str(error),
                                remedy=_AGAIN) from error  # fmt: skip
        time.sleep(min(60.0, self._pause * 2 ** (failures - 1)))


class _TryAgainError(Exception):
    """An answer that may be another one a little later."""


def _check_status(answer: Any, url: str) -> None:
    if answer.status_code in _RETRY_STATUS:
        raise _TryAgainError(f"HTTP {answer.status_code}")
    if answer.status_code not in (200, 206):
        raise DownloadError("the server refuses", where=url, expected="HTTP 200", got=f"HTTP {answer.status_code}",
                            remedy="check the address, or download the archive by hand")  # fmt: skip
