"""What a power loss may leave of a folder: every flush, move and removal is recorded, and states are built from them.

Only what was flushed counts as being on the disk: a file's bytes as they were when it was flushed last, and the names
of a folder as they were when the folder was. Folders themselves are taken for granted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from toy import ToySampler

from voxmint.templates.packing import Template, pack
from voxmint.templates.source import TemplateSource

Files = dict[str, bytes]
"""Content by name, relative to the folder."""


@dataclass(frozen=True)
class WatchedToy(ToySampler):
    """Makes what `ToySampler` does, in workers whose changes are recorded too."""

    diary: str = ""

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> ToySampler:
        Diary.open(Path(access["diary"])).watch(setattr)
        return super().open(definition, access)


class WatchedBoxes(TemplateSource):
    """Boxes as templates, made in workers whose changes are recorded."""

    def __init__(self, count: int, diary: str) -> None:
        self.count, self.diary = count, diary

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"box_{index}"

    def templates(self, index: int, reads: dict[str, str], unusable: dict[str, str]) -> list[Template]:
        words, shape = pack(np.ones((4, 4 + index, 5), np.uint8))
        return [Template(self.key(index), words, shape, 20 * (4 + index))]

    def definition(self) -> dict[str, Any]:
        return {"templates": "boxes", "count": self.count}

    def access(self) -> dict[str, Any]:
        return {"count": self.count, "diary": self.diary}

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> WatchedBoxes:
        Diary.open(Path(access["diary"])).watch(setattr)
        return cls(**access)


@dataclass(frozen=True)
class Diary:
    """Records, in any process that watches, what is done to files below a folder."""

    place: Path
    folder: Path

    @classmethod
    def new(cls, place: Path, folder: Path) -> Diary:
        (place / "blobs").mkdir(parents=True)
        (place / "folder").write_text(str(folder))
        (place / "events").touch()
        return cls(place, folder)

    @classmethod
    def open(cls, place: Path) -> Diary:
        return cls(place, Path((place / "folder").read_text()))

    def watch(self, patch: Callable[[Any, str, Any], object]) -> None:
        """Record from now on all that this process does."""
        sync, replace, unlink = os.fsync, os.replace, os.unlink

        def watched_sync(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            with self._alone():
                sync(file)
                name = self._name(Path(f"/proc/self/fd/{descriptor}").readlink())
                if name is None:
                    return
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    files = [entry for entry in os.scandir(self.folder / name) if entry.is_file()]
                    self._tell(what="names", name=name, files={file.name: file.inode() for file in files})
                else:
                    data = Path(f"/proc/self/fd/{descriptor}").read_bytes()
                    digest = hashlib.sha256(data).hexdigest()
                    (self.place / "blobs" / digest).write_bytes(data)
                    self._tell(what="bytes", file=os.fstat(descriptor).st_ino, blob=digest)

        def watched_replace(old: Any, new: Any, **options: Any) -> None:
            with self._alone():
                lost = _inode(new)
                replace(old, new, **options)
                if self._name(new) is not None:
                    self._tell(what="move", old=self._name(old), new=self._name(new), file=_inode(new), lost=lost)

        def watched_unlink(path: Any, **options: Any) -> None:
            with self._alone():
                lost = _inode(path)
                unlink(path, **options)
                if self._name(path) is not None:
                    self._tell(what="removal", name=self._name(path), lost=lost)

        for names, function in (
            (("fsync", "fdatasync"), watched_sync),
            (("replace", "rename"), watched_replace),
            (("unlink", "remove"), watched_unlink),
        ):
            for name in names:
                patch(os, name, function)

    def mark(self, text: str) -> None:
        """Leave a mark that `states` tells from there on."""
        with self._alone():
            self._tell(what="mark", text=text)

    def take_for_granted(self) -> None:
        """Flush all that lies in the folder now."""
        paths = [path for path in self.folder.rglob("*") if not path.is_symlink()]
        for path in [*(path for path in paths if path.is_file()), self.folder, *(p for p in paths if p.is_dir())]:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        self.mark("start")

    def states(self) -> Iterator[tuple[str, Files]]:
        """Yield last mark and files of all that a power loss may have left, in order of time.

        Of each moment, what is left when no move and removal lasts that was not flushed, and when all last at once.
        """
        counts: dict[int, int] = {}  # an inode's number is used again
        data: dict[tuple[int, int], str] = {}
        least: dict[str, tuple[int, int]] = {}
        most: dict[str, tuple[int, int]] = {}
        mark, before = "", [{}, {}]
        for line in (self.place / "events").read_text().splitlines():
            event = json.loads(line)
            if event["what"] == "mark":
                mark = event["text"]
            elif event["what"] == "bytes":
                data[event["file"], counts.get(event["file"], 0)] = event["blob"]
            elif event["what"] == "names":
                files = {_join(event["name"], name): (n, counts.get(n, 0)) for name, n in event["files"].items()}
                for names in (least, most):
                    for name in [name for name in names if Path(name).parent.as_posix() == event["name"]]:
                        del names[name]
                    names |= files
            else:
                if event["lost"] is not None:
                    counts[event["lost"]] = counts.get(event["lost"], 0) + 1
                most.pop(event.get("name") or event["old"], None)
                if event["what"] == "move":
                    most[event["new"]] = (event["file"], counts.get(event["file"], 0))
            for place, names in enumerate((least, most)):
                state = {name: data.get(file, "") for name, file in names.items()}
                if state != before[place] or event["what"] == "mark":
                    before[place] = state
                    yield mark, {name: self._blob(digest) for name, digest in state.items()}

    def _blob(self, digest: str) -> bytes:
        return (self.place / "blobs" / digest).read_bytes() if digest else b""

    def _name(self, path: Any) -> str | None:
        path = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else None

    def _tell(self, **event: Any) -> None:
        with (self.place / "events").open("a") as stream:
            stream.write(json.dumps(event) + "\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _inode(path: Any) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def lay_out(files: Files, folder: Path) -> Path:
    """Write a state, to go on from it."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
