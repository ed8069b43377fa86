"""The TotalSegmentator archives from Zenodo: fetched so that a broken line costs nothing, checked, unpacked safely."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from voxmint.errors import DownloadError
from voxmint.templates.fetching import Line, Progress, Tell
from voxmint.templates.unzip import unzip

RECORDS = {"v1": 6802614, "v2": 10047292}
"""Zenodo record of each version of the data set."""
_UNPACKED = 1.15  # the archive holds compressed files, so unpacked they take little more
_LONGEST_NAME = 255  # bytes
_AGAIN = "run the same command again: what was fetched is kept and continued"


def download(
    version: str,
    out: str | Path,
    *,
    base_url: str = "https://zenodo.org",
    progress: Progress | None = None,
    tell: Tell | None = None,
    retries: int = 8,
    pause: float = 1.0,
    patience: float | None = None,
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
    tell : callable, optional
        Called with a line of text: what is asked for, who does not answer.
    retries : int
        Failures in a row without a byte of progress before giving up.
    pause : float
        Seconds before the first retry; doubled each time, up to a minute.
    patience : float, optional
        Seconds that a server may be out of reach or silent before its first byte; later they are those of one attempt.
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
    base = base_url.rstrip("/")
    by_hand = (f"or fetch the .zip of {base}/records/{RECORDS[version]} by hand and unzip it into {target}, where the "
               "same command finds it; or do without it: --templates procedural")  # fmt: skip
    line = Line(by_hand, progress, tell, retries, pause, patience)
    url = f"{base}/api/records/{RECORDS[version]}"
    archive = _archive_of(line.json(url), url)
    if tell is not None:
        tell(f"fetching {archive['name']}, {archive['size'] / 1e9:,.1f} GB")
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


def _fetch(archive: dict[str, Any], out: Path, line: Line) -> Path:
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
