"""Compiled kernels are kept as long as they are the right ones, by any mixture of processes, processors and rights."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from numba import config

import voxmint
from voxmint import compiling

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the compiler is off")

KERNELS = "pairs/engines/cpu/kernels"
DAY_S = 24 * 3600
SCRIPT = """
import sys
import numpy as np
from voxmint.compiling import CompiledOnce
from voxmint.pairs.engines.cpu.kernels import artifacts, noise

def gamma():
    image = np.linspace(0.5, 1.5, 7, dtype=np.float32)
    artifacts.adjust_gamma(image, np.float32(0.5), np.float32(1), np.float32(1.5))
    return image.view(np.uint32).tolist()

def words():
    words = np.zeros(3, np.uint64)
    noise.fill_words(np.uint64(1), np.uint64(2), np.uint64(3), words)
    return words.tolist()

call, kernel = {"gamma": (gamma, artifacts.adjust_gamma), "words": (words, noise.fill_words)}[sys.argv[1]]
exec("".join(sys.argv[2:]))
CompiledOnce(kernel, call)()
print(kernel.stats.cache_path if hasattr(kernel, "stats") else None)
print(sum(kernel.stats.cache_misses.values()) if hasattr(kernel, "stats") else 0)
print(call())
"""
"""Calls one kernel; prints where it is kept, how often it was compiled, and what it gives."""


@dataclass
class Answer:
    """What a process that used a kernel says."""

    folder: Path | None
    compiled: int
    result: str


@dataclass
class Installed:
    """A copy of the package, and how processes that use it are started."""

    package: Path
    environment: dict[str, str]

    def start(self, kernel: str = "words", before: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start a process that calls a kernel, after other statements."""
        command = [sys.executable, "-c", SCRIPT, kernel, before]
        environment = self.environment | environment
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.package.parent
        )

    def answer(self, process: subprocess.Popen[str]) -> Answer:
        """Wait for a process."""
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        folder, compiled, result = out.splitlines()
        return Answer(None if folder == "None" else Path(folder), int(compiled), result)

    def call(self, *arguments: Any, **environment: str) -> Answer:
        """Call a kernel in a process of its own."""
        return self.answer(self.start(*arguments, **environment))

    def no_room_beside_sources(self) -> None:
        """Let nobody write beside the kernels, not even root."""
        (self.package / KERNELS / "__pycache__").write_text("")


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Return a copy of the package that was never used."""
    package = tmp_path / "site" / "voxmint"
    shutil.copytree(Path(voxmint.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    # Python trusts size and time of a source for its own cache, which is not what is looked at here
    own = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path / "home")}
    return Installed(package, kept | own)


def edit(file: Path, old: str, new: str) -> None:
    """Change a source, but neither its size nor its time."""
    about, text = file.stat(), file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    assert len(old) == len(new)
    file.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize(
    ("kernel", "source", "old", "new"),
    [
        ("gamma", f"{KERNELS}/elementary.py", "_HALF + r *", "_HALF - r *"),
        ("words", "splitmix.py", "np.uint64(27)", "np.uint64(26)"),
    ],
)
def test_a_change_in_another_file_is_compiled(
    installed: Installed, kernel: str, source: str, old: str, new: str
) -> None:
    """A changed callee, of the same size and time, gives what plain Python gives; changed back, what it gave first."""
    first, second = installed.call(kernel), installed.call(kernel)
    assert (first.compiled, second.compiled) == (1, 0)
    edit(installed.package / source, old, new)
    changed, plain = installed.call(kernel), installed.call(kernel, NUMBA_DISABLE_JIT="1")
    assert changed.compiled == 1
    assert changed.result == plain.result != first.result
    edit(installed.package / source, new, old)
    assert installed.call(kernel) == second


def test_a_change_while_a_process_runs_is_not_kept_as_the_old(installed: Installed) -> None:
    """What a process imported before its sources changed is kept under no name, and compiled for the next process."""
    file = installed.package / "splitmix.py"
    text = file.read_text(encoding="utf-8")
    first = installed.call("words", f"__import__('pathlib').Path({str(file)!r}).write_text({text + '#'!r})")
    assert not list(installed.package.rglob("*.nb[ic]"))
    then = installed.call("words")
    assert then.compiled == 1
    assert then.folder != first.folder


@pytest.mark.parametrize(
    ("before_import", "environment"),
    [
        ("", {"NUMBA_CPU_NAME": "other"}),
        pytest.param("", {"NUMBA_CPU_FEATURES": "+neon"}, marks=pytest.mark.stress),
        ("numba", {}),
        pytest.param("numpy", {}, marks=pytest.mark.stress),
        pytest.param("llvmlite", {}, marks=pytest.mark.stress),
    ],
)
def test_versions_and_processor_have_folders_of_their_own(
    installed: Installed, before_import: str, environment: dict[str, str]
) -> None:
    """Another version of a package, or another processor, looks in another folder."""
    version = f"import {before_import}; {before_import}.__version__ += '.other'\n" if before_import else ""
    where = "from voxmint.templates.procedural.kernels.surface import render; print(render.stats.cache_path)"
    folders = []
    for code, more in ((where, {}), (version + where, environment)):
        told = subprocess.check_output([sys.executable, "-c", code], env=installed.environment | more, text=True)
        folders.append(Path(told.strip()))
    assert (
        folders[0].parent
        == folders[1].parent
        == installed.package / "templates" / "procedural" / "kernels" / "__pycache__"
    )
    assert folders[0] != folders[1]


def test_unlike_processors_keep_kernels_side_by_side(installed: Installed) -> None:
    """Of four processes on two kinds of processor that start together, one of each kind compiles; later none."""
    kinds = [{}, {"NUMBA_CPU_NAME": "generic"}] * 2
    started = [installed.start(**kind) for kind in kinds]
    answers = [installed.answer(process) for process in started]
    assert [sum(answer.compiled for answer in answers[kind::2]) for kind in (0, 1)] == [1, 1]
    assert len({answer.folder for answer in answers}) == 2
    assert len({answer.result for answer in answers}) == 1
    assert [installed.call(**kind).compiled for kind in kinds[:2]] == [0, 0]


def test_numbas_own_folder_is_used(installed: Installed, tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR says where kernels are kept."""
    answers = [installed.call(NUMBA_CACHE_DIR=str(tmp_path / "elsewhere")) for _ in range(2)]
    assert [answer.compiled for answer in answers] == [1, 0]
    assert tmp_path / "elsewhere" in (answers[0].folder or Path()).parents
    assert not list(installed.package.rglob("*.nb[ic]"))


def test_kernels_of_a_package_that_cannot_be_written_are_kept_at_home(installed: Installed, tmp_path: Path) -> None:
    """Without a right to write beside the sources, kernels are kept in the user's cache."""
    installed.no_room_beside_sources()
    answers = [installed.call() for _ in range(2)]
    assert [answer.compiled for answer in answers] == [1, 0]
    assert tmp_path / "home" in (answers[0].folder or Path()).parents


def test_kernels_work_where_nothing_can_be_kept(installed: Installed) -> None:
    """With no folder to write to at all, each process compiles for itself; results are the same."""
    expected = installed.call()
    shutil.rmtree(installed.package / KERNELS / "__pycache__")
    installed.no_room_beside_sources()
    assert installed.call(HOME="/dev/null") == Answer(None, 1, expected.result)


def test_a_folder_of_another_user_does_no_harm(installed: Installed) -> None:
    """A folder that can be neither read nor filled, here a file in its place, is gone without."""
    expected = installed.call()
    assert expected.folder is not None
    shutil.rmtree(expected.folder)
    expected.folder.write_text("")
    assert installed.call() == expected


def test_folders_that_nobody_uses_are_removed(installed: Installed) -> None:
    """Who compiles removes what was not used for a month, and nothing else."""
    beside = installed.package / KERNELS / "__pycache__"
    ages = {"voxmint-old": 31, "voxmint-recent": 29, "other": 99}
    for name, days in ages.items():
        mark = beside / name / "full"
        mark.parent.mkdir(parents=True)
        mark.touch()
        os.utime(mark, (time.time() - days * DAY_S,) * 2)
    unfinished = beside / "voxmint-unfinished"
    unfinished.mkdir()
    os.utime(unfinished, (time.time() - 31 * DAY_S,) * 2)
    folder = installed.call().folder
    assert {path for path in beside.iterdir() if path.is_dir()} == {
        folder,
        beside / "voxmint-recent",
        beside / "other",
    }


def test_using_kernels_keeps_them(installed: Installed) -> None:
    """A process that loads kernels notes that they are in use."""
    folder = installed.call().folder
    assert folder is not None
    os.utime(folder / "full", (time.time() - 29 * DAY_S,) * 2)
    assert installed.call().compiled == 0
    assert time.time() - (folder / "full").stat().st_mtime < DAY_S


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_kernels_are_kept_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What is done by one process at a time is done all the same, in a folder that is made for it."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    done = []
    with compiling._one_process(tmp_path / "kernels" / "lock"):
        done.append((tmp_path / "kernels").is_dir())
    assert done == [True]
