"""SIGKILL of the parent or of workers at any moment, and a disk that fills up."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from kill import killed_at, stop_before_the_end
from toy import ToySampler, contents

from stores import FORMATS
from voxmint.datasets.nifti import NiftiFormat
from voxmint.runs.execute import execute
from voxmint.runs.verify import verify

SAMPLER = ToySampler(length=16, side=8, seconds=0.08)
LAST = 9
"""Largest number of recorded samples at which a kill is drawn: the other seven take longer than a kill."""


class Watcher(threading.Thread):
    """Looks all the time at every file under a final name: it must always be whole."""

    def __init__(self, directory: Path, whole: dict[str, bytes]) -> None:
        super().__init__(daemon=True)
        self.directory, self.whole = directory, whole
        self.wrong: list[str] = []
        self.looks = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.005):
            for name, data in self.whole.items():
                path = self.directory / name
                try:
                    seen = path.read_bytes()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                self.looks += 1
                if seen != data:
                    self.wrong.append(f"{name}: {len(seen)} bytes")

    def end(self) -> None:
        self._over.set()
        self.join()


def recorded(directory: Path) -> int:
    """Return how many samples a run has recorded as stored."""
    ledger = directory / ".voxmint" / "ledger.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def kill_again_and_again(tmp_path, format, driver, seed: int, victims: list[str]) -> None:
    """Kill at random moments, then finish: compare with an uninterrupted run."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    assert driver.run(SAMPLER, format, tmp_path / "whole")[0] == 0
    whole = contents(tmp_path / "whole")
    watcher = Watcher(tmp_path / "cut", whole)
    watcher.start()
    process, landed = driver.start(SAMPLER, format, tmp_path / "cut"), 0
    for victim, moment in zip(victims, sorted(rng.randint(0, LAST) for _ in victims), strict=True):
        children: list[psutil.Process] = []
        while recorded(tmp_path / "cut") < moment or not children:
            if process.poll() is not None:  # the last kill ended it
                assert not (tmp_path / "cut" / "manifest.jsonl").exists(), "the run ended before it could be killed"
                process = driver.start(SAMPLER, format, tmp_path / "cut")
            children = psutil.Process(process.pid).children()
            time.sleep(0.002)
        time.sleep(rng.uniform(0, SAMPLER.seconds))
        if victim == "worker":
            with contextlib.suppress(psutil.NoSuchProcess):  # the last kill's victim, buried since
                rng.choice(children).kill()
                landed += 1
            continue
        process.kill()
        landed += 1
        process.communicate(timeout=60)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "workers outlived their parent"
        if (tmp_path / "cut" / "recipe.yaml").exists():
            assert verify(tmp_path / "cut").ok
    process.communicate(timeout=60)
    assert driver.run(SAMPLER, format, tmp_path / "cut")[0] == 0
    watcher.end()
    print(f"{landed} of {len(victims)} kills landed")
    assert 2 * landed > len(victims)
    assert watcher.looks
    assert not watcher.wrong
    assert contents(tmp_path / "cut") == whole


def test_kills_at_random_moments(tmp_path, driver):
    """After a kill the rerun ends in the bytes of an uninterrupted run; nothing partial ever had a final name."""
    seed = random.SystemRandom().randrange(10**9)
    kill_again_and_again(tmp_path, NiftiFormat(), driver, seed, ["parent"])


@pytest.mark.stress
@pytest.mark.parametrize("victim", ["parent", "worker"])
@pytest.mark.parametrize("seed", range(3))
def test_many_kills_at_random_moments(tmp_path, format, driver, victim, seed):
    """Ten kills each, as above."""
    kill_again_and_again(tmp_path, format, driver, seed, 10 * [victim])


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.stress)])
@pytest.mark.parametrize("rejected", [{}, {"0": "outside", "5": "no mask", "11": "no mask"}])
def test_kill_at_any_moment_while_the_data_set_appears(tmp_path, format, monkeypatch, every, rejected):
    """Killed before any single change of the disk as the run ends, the rerun ends in the same bytes."""
    sampler = ToySampler(side=8, rejected=rejected)
    stop_before_the_end(monkeypatch, lambda: execute(sampler, format, tmp_path / "made", workers=2))
    shutil.copytree(tmp_path / "made", tmp_path / "whole")
    execute(sampler, format, tmp_path / "whole")
    whole, step, killed = contents(tmp_path / "whole"), 0, True
    while killed:
        cut = tmp_path / f"cut{step}"
        shutil.copytree(tmp_path / "made", cut)
        killed = killed_at(step, lambda cut=cut: execute(sampler, format, cut))
        seen = contents(cut)
        assert all(seen[name] == data for name, data in whole.items() if name in seen), "seen before it was whole"
        assert execute(sampler, format, cut).complete
        assert contents(cut) == whole, f"killed at step {step}"
        shutil.rmtree(cut)
        step += every
    assert step > (20 if format.name == "hdf5" and rejected else 6)


@pytest.mark.parametrize("format", [FORMATS["hdf5"], pytest.param(FORMATS["nifti"], marks=pytest.mark.stress)])
def test_full_disk_stops_the_run_and_costs_nothing(tmp_path, format, driver):
    """ENOSPC ends the run with path and remedy; after space is freed the rerun is byte-identical."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        sampler = ToySampler(length=8, side=64)
        execute(sampler, format, tmp_path / "whole")
        full = ToySampler(length=8, side=64, faults={"5": f"fill {disk}/ballast"})
        code, said = driver.run(full, format, disk / "data")
        assert code == 1
        assert "StorageError" in said
        assert "No space left" in said
        assert str(disk / "data") in said
        assert "free space" in said
        (disk / "ballast").unlink()
        assert driver.run(sampler, format, disk / "data") == (0, "")
        assert contents(disk / "data") == contents(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_cut_ledger_line_is_made_again(tmp_path, made):
    """A ledger whose last line was cut by a kill costs one sample, not the data set."""
    format = FORMATS["hdf5"]
    execute(ToySampler(), format, tmp_path, only=range(8), workers=1)
    ledger = tmp_path / ".voxmint/ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-7])
    assert execute(ToySampler(), format, tmp_path, workers=1).made == 5
    assert contents(tmp_path) == contents(made(format))


def test_samples_after_a_cut_ledger_line_are_kept(tmp_path, made, format):
    """What a run records after a line that was cut is found by the next: nothing is appended to the torn line."""
    execute(ToySampler(), format, tmp_path, only=range(8), workers=1)
    ledger = tmp_path / ".voxmint/ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-7])
    assert execute(ToySampler(), format, tmp_path, only=range(8, 10), workers=1).made == 2
    assert verify(tmp_path).samples == 9
    assert execute(ToySampler(), format, tmp_path, workers=1).made == 3
    assert contents(tmp_path) == contents(made(format))


def test_idle_workers_do_not_outlive_their_parent(tmp_path, driver):
    """When the parent is killed, a worker that waits for work ends at once, and so does one that is making a sample."""
    sampler = ToySampler(length=2, side=4, faults={"1": "sleep"})
    process = driver.start(sampler, FORMATS["hdf5"].from_spec({"val_count": 1}), tmp_path / "data")
    while not recorded(tmp_path / "data"):
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    for child in alive:
        child.kill()
    assert not alive, f"{len(alive)} workers outlived their parent"
