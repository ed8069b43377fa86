"""Tables that are no files, or files that are no tables: refused at once, in words."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from voxmint.errors import InputError
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable

NM = ColumnMap(voxel_size_nm=(1, 1, 1))


def refused(source: str | Path, words: str) -> None:
    """Expect an error with these words in under a second."""
    started = time.monotonic()
    with pytest.raises(InputError, match=words):
        list(InstanceTable(source, NM).batches())
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("given", ["pipe.csv", ".", "*.csv", "**/*.csv"])
def test_a_pipe_is_never_waited_for(tmp_path: Path, given: str) -> None:
    """By its name, in a folder beside a good part, or matched by a pattern, it is named and refused."""
    (tmp_path / "good.csv").write_text("x,y,z\n1,1,1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / given, r"pipe\.csv: not a regular file(.|\n)*got: a pipe")


def test_sockets_devices_and_links_to_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named with what it is."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.csv")
        refused("s.csv", "a socket")
    Path("zero.csv").symlink_to("/dev/zero")
    refused("zero.csv", "a device")
    Path("gone.csv").symlink_to("nowhere")
    refused("gone.csv", r"gone\.csv")
    Path("round.csv").symlink_to("round.csv")
    refused("round.csv", r"round\.csv")


def test_folders_that_lead_in_circles_end(tmp_path: Path) -> None:
    """Two links to the folder that holds them would be 2 to the 40th paths; the table is found once."""
    (tmp_path / "t.csv").write_text("x,y,z\n1,1,1\n")
    for name in "ab":
        (tmp_path / name).symlink_to(tmp_path)
    for given in (tmp_path, tmp_path / "**/*.csv"):
        started = time.monotonic()
        assert len(InstanceTable(given, NM).parts) == 1
        assert time.monotonic() - started < 1


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    """A zero byte and a name of a megabyte."""
    refused("a\0.csv", "no table here|cannot be looked for")
    refused(tmp_path / ("x" * 1_000_000 + ".csv"), "no table here|cannot be looked for")


def test_endless_lines_and_headers_are_refused(tmp_path: Path) -> None:
    """A line longer than a block, and a header of 100,000 columns with one name twice."""
    (tmp_path / "line.csv").write_bytes(b"x,y,z\n" + b"1" * 5_000_000)
    refused(tmp_path / "line.csv", "cannot be read as a table")
    names = [f"c{n}" for n in range(60_000)]
    (tmp_path / "wide.csv").write_text(",".join([*names, "c7"]) + "\n1")
    refused(tmp_path / "wide.csv", r"more than one column is called c7|cannot be read")
