"""The procedural bank: grown once a machine, copied into data sets, and never trusted before it was compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from voxmint.cli import main
from voxmint.datasets.manifest import MANIFEST
from voxmint.make import procedural
from voxmint.runs import execute as runs

COUNT = 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("VOXMINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def grow(out: Path, *flags: str) -> int:
    return main(["templates", "procedural", "--out", str(out), "--count", str(COUNT), "--workers", "1", *flags])


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def growths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which shapes were made."""
    folders: list[Path] = []

    def make(job, plan, ledger, left):
        folders.append(plan.output.directory)
        return made(job, plan, ledger, left)

    made = runs._make
    monkeypatch.setattr(runs, "_make", make)
    return folders


def test_it_is_grown_once_and_copied(cache: Path, tmp_path: Path, growths: list[Path], capsys) -> None:
    """The second bank is the first one's bytes, in files of its own; its version is recorded; another seed grows."""
    assert grow(tmp_path / "one") == 0
    assert grow(tmp_path / "two") == 0
    assert capsys.readouterr().out.count(f"made      {COUNT}") == 2
    assert growths == [next(cache.iterdir())]
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(growths[0])
    assert (tmp_path / "two/templates.bank").stat().st_nlink == 1
    assert yaml.safe_load((tmp_path / "two/recipe.yaml").read_text())["version"] == procedural.SHAPES
    assert grow(tmp_path / "three", "--seed", "1") == 0
    assert len(growths) == 2
    assert main(["verify", str(tmp_path / "two")]) == 0
    assert grow(tmp_path / "two") == 0
    assert "complete already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["templates.bank", "records.jsonl", "manifest.jsonl", "recipe.yaml"])
def test_a_damaged_cache_costs_growing_again(cache: Path, tmp_path: Path, growths: list[Path], name: str) -> None:
    """No byte of it is in a data set, and the next one finds it whole."""
    assert grow(tmp_path / "one") == 0
    path = next(cache.iterdir()) / name
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert grow(tmp_path / "two") == 0
    assert grow(tmp_path / "three") == 0
    assert len(growths) == 2
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "three")


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, growths: list[Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The bank is grown where it belongs, and the folder is named."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VOXMINT_CACHE", str(tmp_path / "file"))
    assert grow(tmp_path / "bank") == 0
    assert growths == [tmp_path / "bank"]
    assert "VOXMINT_CACHE names another folder" in capsys.readouterr().err


def test_by_default_it_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux that of the XDG folders, wherever they are."""
    monkeypatch.delenv("VOXMINT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert grow(tmp_path / "bank") == 0
    assert len(list((tmp_path / "xdg/voxmint/banks").iterdir())) == 1


def test_a_copy_that_was_cut_short_is_finished(cache: Path, tmp_path: Path) -> None:
    """After a kill between any two files the same command ends with the same bytes."""
    assert grow(tmp_path / "one") == 0
    whole = contents(tmp_path / "one")
    for name in ("recipe.yaml", "templates.bank"):
        out = tmp_path / f"after {name}"
        out.mkdir()
        for copied in whole:
            if copied == "recipe.yaml" or (name != "recipe.yaml" and copied != MANIFEST):
                shutil.copy(tmp_path / "one" / copied, out / copied)
        assert grow(out) == 0
        assert contents(out) == whole


def test_many_processes_grow_one(cache: Path, tmp_path: Path) -> None:
    """Started together with an empty cache, each ends with the same bank."""
    outs = [tmp_path / str(number) for number in range(4)]
    command = [sys.executable, "-m", "voxmint", "templates", "procedural", "--count", str(COUNT), "--workers", "1"]
    started = [subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env=os.environ, text=True) for out in outs]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    assert len(list(cache.iterdir())) == 1
    assert all(contents(out) == contents(outs[0]) for out in outs)
