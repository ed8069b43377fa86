"""Unpacking an archive that is not trusted: nothing is written outside, nothing beyond the sizes it claims.

`zipfile` writes no more of a member than it claims, and checks its checksum. But it would rename members that lead out
of the folder, write links as files, let one member replace another, and take a member that is shorter than it claims.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from voxmint.errors import DownloadError

_DEFLATE_LIMIT = 1032  # the largest expansion that deflate can reach


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
            names = [PurePosixPath(member.filename) for member in members if not member.is_dir()]
            if len(set(names)) < len(names):  # extracted over one another otherwise
                raise zipfile.BadZipFile("two members have the same name")
            part.mkdir()
            for member in members:
                written = Path(file.extract(member, part))
                if not member.is_dir() and (size := written.stat().st_size) != member.file_size:
                    raise zipfile.BadZipFile(f"{member.filename!r} has {size} bytes, not {member.file_size}")
        part.rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DownloadError(f"damaged or unsupported archive: {error}", where=archive,
                            remedy="remove the archive and run the same command again") from error  # fmt: skip
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"cannot be unpacked: {error.strerror or error}", where=archive, got=error.filename,
                            remedy="check the disk, then run the same command again") from error  # fmt: skip
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
