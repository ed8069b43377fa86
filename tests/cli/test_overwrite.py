"""A data set gives way only when that is asked for and agreed to."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from voxmint.cli import main

SMALL = ["--side", "16", "--count", "1", "--workers", "1", "--format", "nifti"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    assert main(["templates", "procedural", "--out", str(folder), "--count", "6"]) == 0
    return str(folder)


def test_it_is_agreed_to_by_a_flag_or_on_a_terminal(tmp_path, bank, capfd):
    """Without either nothing changes, and the message names the flag; a larger count needs no agreement."""
    out = tmp_path / "out"
    make = ["pairs", "make", "--out", str(out), *SMALL, "--templates", bank]
    assert main([*make, "--overwrite"]) == 0  # there is nothing yet
    before = (out / "recipe.yaml").read_bytes()
    other = [*make, "--seed", "1"]
    capfd.readouterr()
    assert main(other) == 1
    assert "--overwrite" in capfd.readouterr().err
    no_terminal = [sys.executable, "-m", "voxmint", *other, "--overwrite"]
    done = subprocess.run(no_terminal, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    leader, terminal = pty.openpty()
    os.write(leader, b"n\n")
    done = subprocess.run(no_terminal, stdin=terminal, capture_output=True, text=True, check=False)
    assert (done.returncode, "nothing was removed" in done.stderr) == (1, True)
    assert (out / "recipe.yaml").read_bytes() == before
    assert main([*other, "--overwrite", "--yes"]) == 0
    assert b"seed: 1" in (out / "recipe.yaml").read_bytes()
    larger = list(other)
    larger[larger.index("--count") + 1] = "2"
    assert main(larger) == 0
    assert len(list((out / "label_ensembles").iterdir())) == 2


def test_a_bad_command_costs_nothing(tmp_path, bank):
    """Templates that are not there, or a wrong recipe, are told before anything is removed."""
    make = ["pairs", "make", "--out", str(tmp_path / "out"), *SMALL]
    assert main([*make, "--templates", bank]) == 0
    files = sorted(path for path in (tmp_path / "out").rglob("*"))
    for wrong in (["--templates", str(tmp_path / "nowhere")], ["--templates", bank, "--min-templates", "90"]):
        assert main([*make, *wrong, "--overwrite", "--yes"]) != 0
        assert sorted(path for path in (tmp_path / "out").rglob("*")) == files
