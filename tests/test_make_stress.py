"""The real command under SIGKILL, and many processes that start at once with nothing compiled."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from chance import chance
from voxmint.cli import main

pytestmark = pytest.mark.stress
SIDE = 96
COUNT = 60
KILLS = 10
LAST = 0.8
"""Largest share of samples stored at which a kill is drawn: the other twelve samples are more than a kill takes."""
STARTED_SECONDS = 3.0
"""Longest drawn time from a run's start to an early kill."""
FINAL = ("*.hdf5", "*.nii.gz", "*.png", "*.yaml", "manifest.jsonl", "records.jsonl")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bank") / "bank"
    assert main(["templates", "procedural", "--out", str(out), "--count", "12", "--seed", "3"]) == 0
    return out


def command(bank: Path, out: Path, format: str) -> list[str]:
    flags = ["--side", str(SIDE), "--format", format, "--workers", "2", "--templates", str(bank)]
    return [sys.executable, "-m", "voxmint", "pairs", "make", "--out", str(out), "--count", str(COUNT), *flags]


def finals(folder: Path) -> list[Path]:
    return [path for pattern in FINAL for path in folder.rglob(pattern) if ".voxmint" not in path.parts]


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in finals(folder)
    }


def stored(folder: Path) -> float:
    """Return the share of samples that have ever been written to a run's folder: never less than are recorded."""
    volumes = len(list(folder.glob("label_ensembles/*.nii.gz"))) / COUNT
    blocks = sum(512 * path.stat().st_blocks for path in folder.glob("*.hdf5.partial"))
    return max(volumes, blocks / (3 * SIDE**3 * COUNT))


class Watcher(threading.Thread):
    """Hashes every file under a final name as it appears or changes: it must never be anything but whole."""

    def __init__(self, folder: Path, whole: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.folder, self.whole = folder, whole
        self.wrong: set[str] = set()
        self.seen: dict[str, tuple[int, int, int]] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.005):
            for path in finals(self.folder):
                with contextlib.suppress(FileNotFoundError):  # renamed while looking
                    self.look(path)

    def look(self, path: Path) -> None:
        name, state = path.relative_to(self.folder).as_posix(), path.stat()
        version = (state.st_ino, state.st_size, state.st_mtime_ns)
        if self.seen.get(name) != version:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.seen[name] = version
            if self.whole.get(name) != digest:
                self.wrong.add(name)


class Killer:
    """Kills a run ten times, at moments drawn at random but always before it can end.

    A moment is a share of the samples stored: at most `LAST`, so that samples are left to make whatever the speed of
    the machine. One moment in four is a time after the start instead, if it comes before that share is stored.
    """

    def __init__(self, rng: random.Random, folder: Path, victim: str) -> None:
        self.rng, self.folder, self.victim = rng, folder, victim
        self.shares = sorted(rng.uniform(0, LAST) for _ in range(KILLS))
        self.landed: list[float] = []

    def attack(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the run, or its workers one after the other until it ends or all kills have landed."""
        started = time.monotonic()
        early = self.rng.uniform(0, STARTED_SECONDS) if self.rng.random() < 0.25 else math.inf
        while len(self.landed) < KILLS and process.poll() is None:
            share = stored(self.folder)
            if share >= self.shares[len(self.landed)] or time.monotonic() - started > early:
                time.sleep(self.rng.uniform(0, 0.02))
                if self.kill(process):
                    self.landed.append(share)
                    early = math.inf
            else:
                time.sleep(0.002)

    def kill(self, process: subprocess.Popen[bytes]) -> bool:
        if self.victim == "parent":
            victims = [process]
        else:
            victims = psutil.Process(process.pid).children() if process.poll() is None else []
        if not victims or process.poll() is not None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):  # the last kill's victim, buried since
            self.rng.choice(victims).kill()
            return True
        return False


@pytest.mark.parametrize("format", ["hdf5", "nifti"])
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_ten_kills_end_in_the_same_bytes(bank, tmp_path, format, victim):
    """After ten kills at random moments the same command ends in the bytes of a run that nobody disturbed."""
    rng = chance()
    subprocess.run(command(bank, tmp_path / "whole", format), check=True)
    whole, out = hashes(tmp_path / "whole"), tmp_path / "cut"
    killer, watcher = Killer(rng, out, victim), Watcher(out, whole)
    watcher.start()
    while len(killer.landed) < KILLS and not (out / "manifest.jsonl").exists():
        process = subprocess.Popen(command(bank, out, format), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        killer.attack(process)
        process.wait(timeout=300)
    print(f"killed at {', '.join(f'{share:.0%}' for share in killer.landed)} stored")
    subprocess.run(command(bank, out, format), check=True)
    watcher.over.set()
    watcher.join()
    assert len(killer.landed) == KILLS
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
