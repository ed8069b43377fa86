"""Memory does not grow with a data set: 120,000 samples with records as long as those of pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stress
SCRIPT = Path(__file__).parent / "large.py"
BOUND_MB = 150
MANY, FEW = 120_000, 20_000


def large(*words: str) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("format", "count"), [("hdf5", MANY), ("hdf5", FEW), ("nifti", FEW), ("npy", FEW)])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, format, count) -> None:
    """Resuming, ending, running again, opening and verifying each stay within 150 MB of a process that read nothing."""
    out = str(tmp_path / "out")
    large("make", out, format, str(count), str(count - 1))
    for what in ("resume", "finish", "again", "train", "open", "verify"):
        found = json.loads(large("measure", what, out, format, str(count)))
        print(f"\n{format}, {count:,} samples, {what}: {found['seconds']} s, {found['megabytes']} MB")
        assert found["megabytes"] < BOUND_MB, found
