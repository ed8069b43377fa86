"""Absent chunks are found before a run, and a layer may be declared sparse while none of them has decided a sample."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from voxmint.cli import main
from voxmint.phantom.layers import make_phantom

FLAGS = ["--table-voxel-size", "16,16,30", "--crop", "24,24,8"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom whose target lacks every fifth chunk."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=12)
    for path in sorted((folder / "target").rglob("*-*_*-*_*-*"))[1::5]:
        path.unlink()
    return folder


def command(verb: str, phantom: Path, *more: str) -> list[str]:
    layers = [part for name in ("source", "target") for part in (f"--{name}", str(phantom / name))]
    return ["instances", verb, *layers, "--table", str(phantom / "materialization.csv"), *FLAGS, *more]


def make(phantom: Path, out: Path, *more: str) -> int:
    return main(command("make", phantom, "--workers", "1", "--out", str(out), *more))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_check_finds_absent_chunks_and_names_the_flag(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the layer that lacks some, and of no other; where it is declared, the text says so."""
    assert main(command("check", phantom)) == 0
    out, err = capsys.readouterr()
    chunks = json.loads(out)["chunks"]
    assert chunks["source"]["absent"] == 0
    assert 0 < chunks["target"]["absent"] < chunks["target"]["read"]
    assert "give --target-sparse" in chunks["target"]["remedy"]
    assert "chunks of the target layer are absent: if absent chunks of this layer mean background, give" in err
    assert main(command("check", phantom, "--target-sparse")) == 0
    again = json.loads(capsys.readouterr().out)["chunks"]["target"]
    assert again["absent"] == chunks["target"]["absent"]
    assert again["remedy"] == "declared as background by --target-sparse"


@pytest.mark.parametrize("format", ["npy", "hdf5"])
def test_an_unfinished_run_may_be_declared_sparse(phantom, tmp_path, format, capsys) -> None:
    """It ends in the bytes of a run that was declared from the start; a dry run writes nothing."""
    later, at_once = tmp_path / "later", tmp_path / "at_once"
    more = ("--format", format)
    assert make(phantom, later, *more) == 1
    assert "--target-sparse" in capsys.readouterr().err
    before = contents(later)
    assert make(phantom, later, *more, "--target-sparse", "--dry-run") == 0
    assert " of them stored already" in capsys.readouterr().out
    assert contents(later) == before
    assert make(phantom, later, *more, "--target-sparse") == 0
    assert make(phantom, at_once, *more, "--target-sparse") == 0
    assert contents(later) == contents(at_once)
    assert yaml.safe_load((later / "recipe.yaml").read_text())["recipe"]["target_sparse"] is True
    assert main(["verify", str(later)]) == 0
    assert make(phantom, later, *more) == 1
    assert "target_sparse: True there, False asked" in capsys.readouterr().err


def test_what_was_rejected_for_an_absent_chunk_keeps_the_declaration_out(phantom, tmp_path, capsys) -> None:
    """Such a rejection would be a sample; so would one that was read from background that is not declared."""
    out = tmp_path / "out"
    source = shutil.copytree(phantom / "source", tmp_path / "source")
    path = sorted(source.rglob("*-*_*-*_*-*"))[5]
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    whole = phantom / "target"
    rejecting = ["--on-chunk-error", "reject", "--source", str(source), "--target", str(whole)]
    table = ["--table", str(phantom / "materialization.csv"), *FLAGS, "--workers", "1", "--out", str(out)]
    assert main(["instances", "make", *rejecting, *table]) == 0
    (out / "manifest.jsonl").unlink()
    capsys.readouterr()
    from voxmint.datasets.lines import seal

    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    (out / ".voxmint").mkdir(exist_ok=True)
    entries = [{"sample": row, "files": []} for row in rows]
    reason = f"a chunk could not be read: file://{whole}: chunk x 0:64 is missing got: nothing"
    rejected = {"rejected": {"index": 0, "key": "0", "reason": reason, "record": {}}}
    for entry in (rejected, entries[0] | {"sample": {**rows[0], "record": {"reads": {"target 0-1": "absent"}}}}):
        (out / ".voxmint/ledger.jsonl").write_bytes(seal(entry))
        text = (out / "recipe.yaml").read_bytes()
        assert main(["instances", "make", *rejecting, *table, "--target-sparse"]) == 1
        assert "too late to declare the layer sparse" in capsys.readouterr().err
        assert (out / "recipe.yaml").read_bytes() == text
