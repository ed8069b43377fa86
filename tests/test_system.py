"""What other systems lack is not needed where nothing forbids it: tried here with the Linux parts taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import os, signal, socket, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for name in {modules!r}:
    sys.modules.pop(name, None)
for module, name in [(os, n) for n in {names!r}] + [(signal, n) for n in {signals!r}]:
    if hasattr(module, name):
        delattr(module, name)
if {signals!r} and hasattr(socket, "AF_UNIX"):
    del socket.AF_UNIX
"""
MACOS = {"modules": [], "names": ["sched_getaffinity"], "signals": []}
WINDOWS = {
    "modules": ["fcntl", "resource", "pwd", "grp", "termios"],
    "names": ["sched_getaffinity", "pread", "pwrite", "preadv", "pwritev", "sysconf", "SEEK_DATA", "SEEK_HOLE"],
    "signals": ["SIGHUP", "SIGKILL"],
}


def python(system: dict, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that lacks what another system lacks, and so do its child processes."""
    (folder / "sitecustomize.py").write_text(WITHOUT.format(**system))
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


EVERY_MODULE = """
import importlib, json, pkgutil, voxmint
found = [m.name for m in pkgutil.walk_packages(voxmint.__path__, "voxmint.") if not m.name.endswith("__main__")]
for name in found:
    importlib.import_module(name)
print(json.dumps(len(found)))
"""


@pytest.mark.parametrize("system", [MACOS, WINDOWS], ids=["macos", "windows"])
def test_every_module_is_imported(system, tmp_path):
    """No module of ours needs at its top what only Linux has."""
    done = python(system, EVERY_MODULE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 100


MAKE = """
import sys
from voxmint.cli import main
bank, out = "{bank}", "{out}"
sys.exit(main(["pairs", "make", "--out", out, "--count", "2", "--side", "16", "--templates", bank, "--workers", "1"]))
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    from voxmint.make import procedural_templates

    folder = tmp_path_factory.mktemp("bank")
    procedural_templates(folder, 4, workers=1)
    return folder


@pytest.fixture(scope="module")
def made(bank, tmp_path_factory):
    from voxmint.cli import main

    folder = tmp_path_factory.mktemp("made")
    words = ["pairs", "make", "--out", str(folder), "--count", "2", "--side", "16", "--templates", str(bank)]
    assert main([*words, "--workers", "1"]) == 0
    return folder


def test_a_run_without_what_macos_lacks_makes_the_same_bytes(bank, made, tmp_path):
    """Workers, locks and files do without it."""
    out = tmp_path / "out"
    done = python(MACOS, MAKE.format(bank=bank, out=out), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (out / "train_data.hdf5").read_bytes() == (made / "train_data.hdf5").read_bytes()


def test_without_what_windows_lacks_samples_are_drawn_and_checked_and_runs_are_refused(bank, made, tmp_path):
    """The sample has the recorded digest, the data set verifies, and a run ends in one message that names WSL2."""
    code = f"""
import json, voxmint as vm
bank = vm.TemplateBank.open({str(bank)!r})
sample = vm.PairSampler(vm.PairRecipe(side=16), bank, 0)[1]
from voxmint.runs.verify import verify
report = verify({str(made)!r})
print(json.dumps([sample.digest(), report.ok, report.samples]))
"""
    done = python(WINDOWS, code, tmp_path)
    assert done.returncode == 0, done.stderr
    digests = [json.loads(line)["digest"] for line in (made / "records.jsonl").read_text().splitlines()]
    assert json.loads(done.stdout) == [digests[1], True, 2]
    done = python(WINDOWS, MAKE.format(bank=bank, out=tmp_path / "out"), tmp_path)
    assert (done.returncode, "WSL2" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert not (tmp_path / "out").exists()
