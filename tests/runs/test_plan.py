"""What a run checks before it writes anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from toy import ToySampler

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import PlanError
from voxmint.runs.execute import execute


def test_data_set_larger_than_the_free_space_is_refused(tmp_path, monkeypatch, format):
    """Too little space, or not a byte to spare, is refused before anything is made; ample space is not."""
    needed = execute(ToySampler(), format, tmp_path / "new", dry_run=True).plan.write_bytes
    usage = shutil.disk_usage(tmp_path)
    for free in (0, needed // 2, needed - 1, needed):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        for dry_run in (True, False):
            with pytest.raises(PlanError, match="would not fit") as caught:
                execute(ToySampler(), format, tmp_path / "new", dry_run=dry_run)
            assert "free space" in str(caught.value.remedy)
            assert caught.value.where == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * needed + (1 << 30)))
    assert execute(ToySampler(), format, tmp_path / "new", dry_run=True).plan.free_bytes == 2 * needed + (1 << 30)


def test_full_disk_does_not_hide_a_finished_data_set(made, monkeypatch, format):
    """Where nothing is left to do no space is needed."""
    usage = shutil.disk_usage(made(format))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert execute(ToySampler(), format, made(format), dry_run=True).complete


def test_small_file_system_is_refused_before_anything_is_written(tmp_path):
    """A real file system of 64 MB refuses 70 MB at once, and stays empty."""
    job = {
        "sampler": asdict(ToySampler(length=90, side=64)),
        "format": Hdf5Format().spec(),
        "directory": str(tmp_path / "data"),
        "workers": 1,
    }
    script = 'mount -t tmpfs -o size=64m tmpfs "$1" || exit 77; "$2" "$3" "$4"; code=$?; ls -A "$1"; exit $code'
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*alone, "sh", "-c", script, "sh", str(tmp_path), sys.executable, str(Path(__file__).parent / "drive.py")]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, to mount a small file system for one process alone")
    done = subprocess.run([*command, json.dumps(job)], capture_output=True, text=True, cwd="/")
    if "PlanError" not in done.stderr and (done.returncode == 77 or "unshare" in done.stderr):
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    assert done.returncode == 1
    assert "PlanError" in done.stderr
    assert "would not fit" in done.stderr
    assert done.stdout == "", "something was written"


@pytest.mark.parametrize(("count", "workers"), [(0, 1), (-1, 1), (13, 1), (12, 0), (12, -2)])
def test_impossible_numbers_are_refused(tmp_path, format, count, workers):
    """No sample, more samples than there are, and no worker: refused, and nothing is made."""
    with pytest.raises(PlanError):
        execute(ToySampler(), format, tmp_path / "new", count=count, workers=workers)
    assert not (tmp_path / "new").exists()


def test_number_of_samples_may_be_all_or_fewer(tmp_path):
    """A count below the sampler's length makes the first so many."""
    result = execute(replace(ToySampler(), side=4), Hdf5Format(), tmp_path, count=5, workers=1)
    assert (result.made, result.complete, result.plan.output.count) == (5, True, 5)
    records = (tmp_path / "records.jsonl").read_text().splitlines()
    assert [json.loads(record)["index"] for record in records] == [0, 1, 2, 3, 4]


def test_what_is_stored_needs_no_space_again(tmp_path, format):
    """The more samples an earlier run has stored, the less space the next one asks for."""
    sampler = ToySampler(length=8, side=32)
    asked = [execute(sampler, format, tmp_path, dry_run=True).plan.write_bytes]
    for last in (4, 8):
        execute(sampler, format, tmp_path, only=range(last), workers=1)
        asked.append(execute(sampler, format, tmp_path, dry_run=True).plan.write_bytes)
    assert asked[0] * 0.4 < asked[1] < asked[0] * 0.6
    assert asked[2] == 0
