"""Buckets that cannot be reached are told in seconds, in one message."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "volumes"))
from servers import free_port

for package in ("gcsfs", "s3fs", "cloudvolume"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")

PROGRAM = """
import sys
from voxmint.cli.told import told
from voxmint.stores.place import Place
from voxmint.volumes.opening import open_layer
url, how = sys.argv[1:]
sys.exit(told(lambda: Place(url).write("x", b"x") if how == "write" else open_layer(url, reader=how)))
"""


@pytest.mark.parametrize("how", ["write", "tensorstore", "cloudvolume"])
@pytest.mark.parametrize("scheme", ["gs", "s3"])
@pytest.mark.parametrize("endpoint", ["closed", "unknown"])
def test_a_bucket_without_a_route(tmp_path: Path, scheme: str, how: str, endpoint: str) -> None:
    """Neither a traceback nor a line of a library's log on standard error."""
    server = f"http://127.0.0.1:{free_port()}" if endpoint == "closed" else "https://nowhere.invalid"
    names = ("STORAGE_EMULATOR_HOST",) if scheme == "gs" else ("AWS_ENDPOINT_URL",)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_", "STORAGE_"))}
    environment = {**kept, **dict.fromkeys(names, server), "HOME": str(tmp_path), "CLOUD_VOLUME_DIR": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PROGRAM, f"{scheme}://bucket/a", how], env=environment,
                          capture_output=True, text=True, timeout=90)  # fmt: skip
    assert time.monotonic() - start < 45  # of which a busy machine takes most to import the clients
    assert done.returncode == 1
    assert done.stderr.startswith(f"voxmint: {scheme}://bucket/a: ")
    assert "no connection to" in done.stderr
    assert len(done.stderr.splitlines()) == 3
