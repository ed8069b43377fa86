"""The real command under SIGKILL, and many processes that start at once with nothing compiled."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from voxmint.cli import main

pytestmark = pytest.mark.stress
COUNT = 40
FINAL = ("*.hdf5", "*.nii.gz", "*.png", "*.yaml", "manifest.jsonl", "records.jsonl")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bank") / "bank"
    assert main(["templates", "procedural", "--out", str(out), "--count", "12", "--seed", "3"]) == 0
    return out


def command(bank: Path, out: Path, store: str) -> list[str]:
    flags = ["--side", "96", "--format", store, "--workers", "2", "--templates", str(bank)]
    return [sys.executable, "-m", "voxmint", "pairs", "make", "--out", str(out), "--count", str(COUNT), *flags]


def hashes(folder: Path) -> dict[str, str]:
    found = (path for pattern in FINAL for path in folder.rglob(pattern) if ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


class Watcher(threading.Thread):
    """Hashes every file under a final name, again and again: it must never be anything but whole."""

    def __init__(self, folder: Path, whole: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.folder, self.whole = folder, whole
        self.wrong: set[str] = set()
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            try:
                found = hashes(self.folder)
            except FileNotFoundError:  # renamed while looking
                continue
            self.seen |= found.keys()
            self.wrong |= {name for name, digest in found.items() if self.whole.get(name) != digest}


@pytest.mark.parametrize("store", ["hdf5", "nifti"])
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_ten_kills_end_in_the_same_bytes(bank, tmp_path, store, victim):
    """After ten kills at random moments the same command ends in the bytes of a run that nobody disturbed."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    started = time.monotonic()
    subprocess.run(command(bank, tmp_path / "whole", store), check=True)
    seconds = time.monotonic() - started
    whole, out, landed = hashes(tmp_path / "whole"), tmp_path / "cut", 0
    watcher = Watcher(out, whole)
    watcher.start()
    while landed < 10 and not (out / "manifest.jsonl").exists():
        process = subprocess.Popen(command(bank, out, store), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while landed < 10 and process.poll() is None:
            time.sleep(rng.uniform(0.3, seconds / 5))
            workers = psutil.Process(process.pid).children() if process.poll() is None else []
            victims = workers if victim == "worker" else [process]
            if victims and process.poll() is None:
                rng.choice(victims).kill()
                landed += 1
        process.wait(timeout=120)
    subprocess.run(command(bank, out, store), check=True)
    watcher.over.set()
    watcher.join()
    assert landed == 10
    assert watcher.seen
    assert not watcher.wrong
    assert hashes(out) == whole
    assert main(["verify", str(out)]) == 0


def test_many_cold_starts_at_once(bank, tmp_path):
    """Eight processes that find an empty kernel cache all end well, with the same digest."""
    code = (
        "import voxmint as vm; r = vm.PairRecipe(side=16, min_templates=2, max_templates=4); "
        f"print(vm.PairSampler(r, {str(bank)!r})[0].digest())"
    )
    for attempt in range(2):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / f"cache{attempt}")}
        processes = [
            subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(8)
        ]
        assert len({process.communicate(timeout=300)[0] for process in processes}) == 1
        assert all(process.returncode == 0 for process in processes)


def test_digests_do_not_depend_on_the_processor(bank):
    """Kernels compiled for a generic processor give the bytes of those compiled for this one."""
    code = (
        "import voxmint as vm; "
        f"s = vm.PairSampler(vm.PairRecipe(side=64), {str(bank)!r}); print([s[i].digest() for i in range(6)])"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for environment in (dict(os.environ), {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""})
    ]
    assert said[0] == said[1]
