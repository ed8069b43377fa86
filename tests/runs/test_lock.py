"""One run a directory, whatever locks its file system has."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from voxmint.datasets.format import Output
from voxmint.errors import PlanError
from voxmint.runs.lock import HELD, NAME, claim, hold_lock

HOLD = """
import fcntl, os, sys
from pathlib import Path
number, kinds, state, end = int(sys.argv[1]), sys.argv[2].split(), Path(sys.argv[3]), sys.argv[4]

def refuse(*_):
    raise OSError(number, os.strerror(number))

for kind in kinds:
    setattr(fcntl, kind, refuse)
from voxmint.errors import VoxmintError
from voxmint.runs.lock import hold_lock
try:
    with hold_lock(state):
        print("held", flush=True)
        sys.stdin.readline()
except VoxmintError as error:
    print(error, flush=True)
"""
"""Holds a lock where the file system has not these ``kinds``, says so, and waits for a line."""
WAYS = {"flock": "", "posix": "flock", "file": "flock lockf"}


@pytest.fixture
def start(tmp_path):
    processes = []

    def begin(way: str, number: int = errno.ENOTSUP, state: Path | None = None) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", HOLD, str(number), WAYS[way], str(state or tmp_path / "s"), ""]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def without(patch: pytest.MonkeyPatch, *kinds: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    for kind in kinds:
        patch.setattr(f"fcntl.{kind}", refuse)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS], ids=["ENOTSUP", "ENOLCK", "ENOSYS"])
@pytest.mark.parametrize("way", WAYS)
def test_a_second_process_is_refused_until_the_first_ends(start, tmp_path, way, number) -> None:
    """With each kind of lock the second is told the process and host of the first, and later gets the lock itself.

    The file that stands for a lock is made only where the kernel has neither kind.
    """
    first = start(way, number)
    assert first.stdout.readline() == "held\n"
    assert (tmp_path / "s" / HELD).exists() == (way == "file")
    second, _ = start(way, number).communicate()
    assert f"process {first.pid} on {socket.gethostname()}" in second
    assert "remedy" in second
    first.communicate("\n")
    assert not (tmp_path / "s" / HELD).exists()
    third, _ = start(way, number).communicate("\n")
    assert third == "held\n"


@pytest.mark.parametrize("way", WAYS)
def test_the_lock_of_a_killed_process_is_free(start, way) -> None:
    """SIGKILL of the holder leaves nothing that stops the next run, even before its parent has noticed."""
    first = start(way)
    assert first.stdout.readline() == "held\n"
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    assert start(way).communicate("\n")[0] == "held\n"


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
@pytest.mark.parametrize("way", WAYS)
def test_of_many_that_start_at_once_one_gets_the_lock(start, tmp_path, way, stale) -> None:
    """Exactly one, be it that a holder was killed before or not: they do not remove each other's files."""
    (tmp_path / "s").mkdir()
    if stale:
        about = {"pid": 2**22 + 1, "host": socket.gethostname(), "start": "1"}
        (tmp_path / "s" / HELD).write_text(json.dumps(about))
    all_of_them = [start(way) for _ in range(4)]
    said = [process.stdout.readline() for process in all_of_them]
    assert said.count("held\n") == 1


def test_the_file_of_another_host_is_refused_with_what_to_remove(tmp_path, monkeypatch) -> None:
    """Nobody here knows whether that run lives: its file is named, left, and after its removal the lock is free."""
    without(monkeypatch, "flock", "lockf")
    held = tmp_path / HELD
    held.write_text(json.dumps({"pid": 1, "host": "elsewhere", "start": "1"}))
    with pytest.raises(PlanError, match=f"process 1 on elsewhere(.|\n)*remove {held}"), hold_lock(tmp_path):
        pass
    held.unlink()
    with hold_lock(tmp_path):
        assert json.loads(held.read_bytes())["pid"] == os.getpid()
    assert not held.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_file_that_names_nobody_is_refused_with_what_to_remove(tmp_path, monkeypatch, text) -> None:
    """Its maker may be about to write its name: it is not taken over."""
    without(monkeypatch, "flock", "lockf")
    (tmp_path / HELD).write_text(text)
    with pytest.raises(PlanError, match=f"just started(.|\n)*remove {tmp_path / HELD}"), hold_lock(tmp_path):
        pass


def test_a_number_that_another_process_has_now_is_taken_over(tmp_path, monkeypatch) -> None:
    """The holder is the process of that number that started then, not any later one."""
    without(monkeypatch, "flock", "lockf")
    about = {"pid": os.getpid(), "host": socket.gethostname(), "start": "1"}
    (tmp_path / HELD).write_text(json.dumps(about))
    with hold_lock(tmp_path):
        pass


def test_a_file_that_cannot_be_filled_is_not_left(tmp_path, monkeypatch) -> None:
    """No space for the name of the holder: the next run is not stopped by an empty file."""
    without(monkeypatch, "flock", "lockf")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"), hold_lock(tmp_path):
            pass
    with hold_lock(tmp_path):
        pass


@pytest.mark.parametrize("way", WAYS)
def test_a_claim_leaves_nothing_if_nothing_was_written(tmp_path, monkeypatch, way) -> None:
    """A refused run takes away the folders and the lock that it made itself, and no others."""
    without(monkeypatch, *WAYS[way].split())
    (tmp_path / "mine").mkdir()
    with claim(Output.at(tmp_path / "mine" / "a" / "b")):
        assert (tmp_path / "mine" / "a" / "b" / ".voxmint" / NAME).exists()
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_lock_that_its_first_holder_removed_does_not_count(start, tmp_path, monkeypatch, way) -> None:
    """Who opened the lock's file before a refused run removed it, and locked it after, locks the new file as well."""
    without(monkeypatch, *WAYS[way].split())
    lock, opened, other = tmp_path / "s" / NAME, os.open, []

    def open_and_wait(path, *arguments, **named):
        descriptor = opened(path, *arguments, **named)
        if path == lock and not other:
            lock.unlink()
            other.append(start(way))
            assert other[0].stdout.readline() == "held\n"
        return descriptor

    monkeypatch.setattr(os, "open", open_and_wait)
    with pytest.raises(PlanError, match="another run is active"), hold_lock(tmp_path / "s"):
        pass


def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path, monkeypatch) -> None:
    """A refused run may remove the folder of a run that is about to take its lock."""
    state, opened, removed = tmp_path / "s", os.open, []

    def remove_once(path, *arguments, **named):
        if path == state / NAME and not removed:
            removed.append(state.rmdir())
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", remove_once)
    with hold_lock(state):
        assert removed
