"""Unpacking an archive that is not trusted: nothing is written outside, nothing beyond the sizes it claims."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from voxmint.errors import DownloadError

_DEFLATE_LIMIT = 1032  # the largest expansion that deflate can reach
_CHUNK = 1 << 20


def unzip(archive: Path, target: Path) -> None:
    """Unpack ``archive`` into a new folder ``target``, which appears only when complete.

    Raises
    ------
    DownloadError
        The archive is damaged, has members with ``..``, absolute paths or links, claims sizes that it cannot hold or
        the disk cannot, or holds other sizes than it claims. Nothing is left behind then.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            for member in members:
                _check_member(member, archive)
            _check_sizes(members, archive)
            part.mkdir()
            for member in members:
                _unpack(file, member, part, archive)
        part.rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, FileExistsError) as error:
        raise DownloadError(f"damaged or unsupported archive: {error}", where=archive,
                            remedy="remove the archive and run the same command again") from error  # fmt: skip
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_member(member: zipfile.ZipInfo, archive: Path) -> None:
    name, windows = PurePosixPath(member.filename), PureWindowsPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or windows.drive or windows.root or ".." in (*name.parts, *windows.parts):
        fault = "a member would be written outside of the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "a member is a link or a special file"
    elif member.file_size > _DEFLATE_LIMIT * member.compress_size + 1024:
        fault = "a member claims more bytes than it can hold"
    else:
        return
    raise DownloadError(f"unsafe archive: {fault}", where=archive, got=repr(member.filename),
                        remedy="do not use this archive: get it from its publisher")  # fmt: skip


def _check_sizes(members: list[zipfile.ZipInfo], archive: Path) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(archive.parent).free
    if needed > free:
        raise DownloadError("not enough free space to unpack", where=archive, expected=f"{needed / 1e9:.2f} GB",
                            got=f"{free / 1e9:.2f} GB free", remedy="free space, then run the same command again",
                            )  # fmt: skip


def _unpack(file: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, archive: Path) -> None:
    path = folder / member.filename
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with file.open(member) as source, path.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > member.file_size:
                break
            sink.write(chunk)
    if written != member.file_size:
        raise DownloadError("damaged archive: a member has another size than it claims", where=archive,
                            expected=member.file_size, got=written)  # fmt: skip
