"""Any one system call on the output fails, in each format: one message, and a rerun ends in the same bytes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from voxmint.cli import main
from voxmint.phantom.layers import make_phantom

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
KINDS = ["open", "write", "fsync", "close", "rename", "unlink", "mkdir", "flock", "ftruncate"]
"""In the order of the numbers in ``disk_faults.c``."""
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE]
PAIRS = ["pairs", "make", "--count", "3", "--side", "16", "--min-templates", "2", "--max-templates", "4"]
FORMATS = {
    "bank": ["templates", "procedural", "--count", "3"],
    "hdf5": [*PAIRS, "--val-count", "1"],
    "nifti": [*PAIRS, "--format", "nifti"],
    "npy": ["instances", "make", "--count", "3", "--crop", "16,16,8", "--table-voxel-size", "16,16,30"],
}
SOME = [
    ("hdf5", "close", 35, errno.EDQUOT),
    ("hdf5", "write", 4, errno.ENOSPC),
    ("nifti", "mkdir", 2, errno.ENOSPC),
    ("nifti", "rename", 3, errno.EIO),
    ("npy", "open", 9, errno.ESTALE),
    ("npy", "unlink", 1, errno.EROFS),
    ("bank", "write", -24, errno.ENOSPC),
    ("bank", "flock", 1, errno.EIO),
]


class Disk:
    """Runs commands whose output lies on a disk of which one call fails, and knows what they make without."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shim, self.plan = folder, folder / "faults.so", folder / "plan"
        source = Path(__file__).with_name("disk_faults.c")
        words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self.shim), str(source), "-ldl"]
        subprocess.run(words, check=True, capture_output=True)
        make_phantom(folder / "phantom", size=(256, 256, 32), instances=12)
        assert main(self.words("bank", folder / "whole-bank")) == 0
        self._whole: dict[str, dict[str, bytes]] = {}

    def words(self, kind: str, out: Path) -> list[str]:
        phantom = self.folder / "phantom"
        more = {
            "bank": [],
            "npy": ["--source", f"{phantom}/source", "--target", f"{phantom}/target",
                    "--table", f"{phantom}/materialization.csv"],
        }.get(kind, ["--templates", str(self.folder / "whole-bank")])  # fmt: skip
        return [*FORMATS[kind], *more, "--out", str(out), "--workers", "1"]

    def whole(self, kind: str) -> dict[str, bytes]:
        if kind not in self._whole:
            out = self.folder / f"whole-{kind}"
            assert main(self.words(kind, out)) == 0
            self._whole[kind] = contents(out)
        return self._whole[kind]

    def fails(self, kind: str, call: str, which: int, number: int) -> bool:
        """Run with a fault (negative: with all from there on), and without; return whether there were so many calls."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        self.plan.write_bytes(struct.pack("4i", KINDS.index(call) + 1, which, number, 0))
        no_cache = {"VOXMINT_CACHE": str(self.shim)}  # a file: a bank is grown where it belongs
        faults = {**no_cache, "LD_PRELOAD": str(self.shim), "FAULT_PLAN": str(self.plan), "FAULT_ROOT": str(out)}
        words = [sys.executable, "-m", "voxmint", *self.words(kind, out)]
        environment = {**os.environ, **faults}
        told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
        about = f"{call} {which} {errno.errorcode[number]}: {told.stderr}"
        if struct.unpack("4i", self.plan.read_bytes())[3] < abs(which):
            assert told.returncode == 0, about
            return False
        assert told.returncode in (0, 1), about
        if told.returncode:  # what is only tidied up, or beside the data, may fail in silence
            assert f"\n{told.stderr}".count("\nvoxmint: ") == 1, (
                about
            )  # at the start of a line: folders are named .voxmint
            assert "remedy: " in told.stderr, about
            assert os.strerror(number) in told.stderr, about
        assert "Traceback" not in told.stderr, about
        assert "Exception" not in told.stderr, about
        assert "bug" not in told.stderr, about
        assert main(self.words(kind, out)) == 0, about
        found, whole = contents(out), self.whole(kind)
        assert list(found) == list(whole), about
        assert [name for name in whole if found[name] != whole[name]] == [], about
        return True


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lock")
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize(("kind", "call", "which", "number"), SOME)
def test_a_call_that_fails_is_told_and_costs_no_data(disk, kind, call, which, number) -> None:
    """Some of the calls of some of the runs, each with some error."""
    assert disk.fails(kind, call, which, number), "there are fewer such calls"


@pytest.mark.stress
@pytest.mark.parametrize("call", KINDS)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_call_that_fails_is_told_and_costs_no_data(disk, kind, call) -> None:
    """Each of the calls of a kind in turn, with the errors by turns."""
    for which in itertools.count(1):
        if not disk.fails(kind, call, which, NUMBERS[which % len(NUMBERS)]):
            break
