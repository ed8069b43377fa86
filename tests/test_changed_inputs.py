"""Faults of finished data sets and of what they were made from: found, and repaired to the last byte or refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import voxmint.runs.execute as running
from voxmint.cli import main
from voxmint.datasets.lines import seal, unseal
from voxmint.datasets.records import Records
from voxmint.phantom.layers import make_phantom
from voxmint.runs.verify import verify
from voxmint.stores.place import Place
from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import word_count

PAIRS = ["--count", "5", "--side", "16", "--min-templates", "3", "--max-templates", "4", "--workers", "1"]
INSTANCES = ["--table-voxel-size", "16,16,30", "--crop", "24,24,8", "--scenarios", "2", "--workers", "1"]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    make_phantom(folder, size=(256, 256, 32), instances=8)
    return folder


def sources(layers: Path) -> list[str]:
    places = [part for name in ("source", "target") for part in (f"--{name}", str(layers / name))]
    return [*places, "--table", str(layers / "materialization.csv"), *INSTANCES]


@pytest.fixture(scope="module")
def made(layers: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One data set of each generator and format, to be read alone."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["templates", "procedural", "--out", str(folder / "bank"), "--count", "40"]) == 0
    for format in ("hdf5", "nifti"):
        out = folder / f"pairs-{format}"
        # a bank in the data set's own folder, smaller than the one of a command that makes it
        shutil.copytree(folder / "bank", out / "templates")
        words = ["pairs", "make", "--out", str(out), "--format", format, "--templates", str(out / "templates"), *PAIRS]
        assert main(words) == 0
    for format in ("npy", "hdf5"):
        out = folder / f"instances-{format}"
        assert main(["instances", "make", *sources(layers), "--format", format, "--out", str(out)]) == 0
    return {path.name: path for path in folder.iterdir() if path.name != "bank"}


@pytest.fixture(params=["pairs-hdf5", "pairs-nifti", "instances-npy", "instances-hdf5"])
def whole(request: pytest.FixtureRequest, made: dict[str, Path]) -> Path:
    return made[request.param]


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, that may be changed; its own bank is the one it names, wherever it lies."""
    return shutil.copytree(whole, tmp_path / whole.name)


def damage_sample(out: Path, index: int) -> None:
    """Flip a byte of an array of a sample."""
    if (out / "train_data.hdf5").exists():
        with h5py.File(out / "train_data.hdf5") as file:
            group = file[sorted(name for name in file if int(name) == index)[0]]
            place = group[sorted(group)[0]].id.get_offset()
        flip(out / "train_data.hdf5", place + 50)
        return
    key = Records(Place(out))[index]["key"]
    path = next(path for path in sorted(out.rglob(f"*{key}*")) if path.suffix in {".npy", ".gz"})
    flip(path, path.stat().st_size - 20)


@pytest.mark.parametrize("kind", ["pairs-hdf5", "pairs-nifti"])
def test_inverted_templates_are_named_and_nothing_is_touched(made, tmp_path, capsys, kind) -> None:
    """A bank whose templates were inverted is found by `verify`; `repair` refuses to make a sample of them."""
    out = shutil.copytree(made[kind], tmp_path / kind)
    records = Records(Place(out))
    used = [{drawn["template"] for drawn in records[i]["record"]["ensemble"]["templates"]} for i in (0, 3)]
    bank = TemplateBank.open(out / "templates")
    assert used[1] - used[0]
    with h5py.File(bank.path, "r+") as file:
        for number in used[1] - used[0]:
            first = int(file["offset"][number])
            part = slice(first, first + word_count(bank.shape(number)))
            file["words"][part] = ~file["words"][part]
    damage_sample(out, 3)
    before = contents(out)
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    assert "templates/templates.bank" in capsys.readouterr().out
    assert main(["repair", str(out)]) == 1
    assert "templates/templates.bank" in capsys.readouterr().err
    assert contents(out) == before


@pytest.mark.parametrize("name", ["source", "target"])
@pytest.mark.parametrize("kind", ["instances-npy", "instances-hdf5"])
def test_changed_chunks_are_named_and_nothing_is_touched(made, layers, tmp_path, capsys, kind, name) -> None:
    """A layer whose chunks were inverted is named by `repair`, which makes no sample of it."""
    out = shutil.copytree(made[kind], tmp_path / kind)
    chunks = {path: path.read_bytes() for path in (layers / name).glob("*/*")}
    damage_sample(out, int(Records(Place(out)).indices[3]))
    before = contents(out)
    try:
        for path, data in chunks.items():
            kinds = np.frombuffer(data, np.uint32 if name == "target" else np.uint8)
            path.write_bytes(np.roll(kinds, 777).tobytes())
        capsys.readouterr()
        assert main(["repair", str(out)]) == 1
        said = capsys.readouterr().err
        assert str(layers / name) in said
        assert re.search(rf"{name} \d+-\d+_\d+-\d+_\d+-\d+: an input changed", said), "the chunk is named, too"
        assert contents(out) == before
    finally:
        for path, data in chunks.items():
            path.write_bytes(data)
    assert main(["repair", str(out)]) == 0
    assert contents(out) == contents(made[kind])


def test_a_lost_manifest_is_found_and_made_again(whole, copy) -> None:
    """Without its manifest a data set is no finished one: `verify` says so, and `repair` restores every byte."""
    (copy / "manifest.jsonl").unlink()
    assert main(["verify", str(copy)]) == 1
    code = main(["repair", str(copy)])
    assert code == 0
    assert contents(copy) == contents(whole)


def test_a_flip_in_any_file_is_found_and_never_blessed(whole, copy, capsys) -> None:
    """In each file, pictures and inputs in the folder included: found, and all bytes restored or refused by name."""
    expected, kinds = contents(whole), set()
    for name, data in expected.items():
        kind = (name.partition("/")[0], Path(name).suffix)
        if "/" in name and not name.startswith("templates/") and kind in kinds:
            continue  # one of each kind of volumes
        kinds.add(kind)
        flip(copy / name, len(data) // 2)
        before = contents(copy)
        capsys.readouterr()
        assert main(["verify", str(copy)]) == 1, name
        assert name in capsys.readouterr().out
        if main(["repair", str(copy), "--workers", "1"]) == 0:
            assert contents(copy) == expected, name
        else:
            assert name in capsys.readouterr().err, name
            assert contents(copy) == before, name
            (copy / name).write_bytes(data)
        assert verify(copy).ok, name


def test_a_record_that_the_manifest_vouches_for_is_found_all_the_same(whole, copy, capsys) -> None:
    """Record and manifest changed together, checksums and all: their table knows better, and repair restores both."""
    expected, path = contents(whole), copy / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[1])
    record["record"]["changed"] = True
    path.write_bytes(b"".join([lines[0], json.dumps(record).encode() + b"\n", *lines[2:]]))
    _vouch(copy, "records.jsonl")
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 1
    assert "records.jsonl" in capsys.readouterr().out
    before = contents(copy)
    if main(["repair", str(copy), "--workers", "1"]) == 0:
        assert contents(copy) == expected
    else:
        assert contents(copy) == before


def test_a_bank_that_is_damaged_before_the_end_is_not_vouched_for(made, tmp_path, monkeypatch, capsys) -> None:
    """A run does not end beside a bank of its own of which a file changed, were it one that decides no sample."""
    expected, out = contents(made["pairs-hdf5"]), tmp_path / "out"
    shutil.copytree(made["pairs-hdf5"] / "templates", out / "templates")
    words = ["pairs", "make", "--out", str(out), "--templates", str(out / "templates"), *PAIRS]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "finish", stop)
        assert main(words) != 0
    for name in ("records.jsonl", "templates.bank"):
        path = out / "templates" / name
        middle = path.stat().st_size // 2
        flip(path, middle)
        capsys.readouterr()
        assert main(words) == 1
        assert name in capsys.readouterr().err
        flip(path, middle)
    assert main(words) == 0
    assert contents(out).keys() == expected.keys()
    assert verify(out).ok


def _vouch(folder: Path, name: str) -> None:
    """Have the manifest say what a file is now, in a line and an end that are sealed."""
    import hashlib

    from voxmint.files import file_entry

    *lines, _ = [unseal(line) for line in (folder / "manifest.jsonl").read_bytes().splitlines(keepends=True)]
    sealed = [seal(file_entry(folder, folder / name) if line.get("file") == name else line) for line in lines]
    end = seal({"end": len(sealed), "sha256": hashlib.sha256(b"".join(sealed)).hexdigest()})
    (folder / "manifest.jsonl").write_bytes(b"".join([*sealed, end]))


def test_another_data_set_of_the_same_file_is_refused(layers, tmp_path, monkeypatch, capsys) -> None:
    """A run begun from one volume of a file does not go on from another one beside it."""
    from voxmint.volumes.opening import open_layer

    layer = open_layer(layers / "source")
    image = layer.read(layer.bounds).array.T
    with h5py.File(tmp_path / "two.h5", "w") as file:
        for name, voxels in (("em", image), ("em_inverted", 255 - image)):
            file[name] = voxels
            size, start = layer.voxel_size_nm[::-1], layer.bounds.start[::-1]
            file[name].attrs.update(resolution=size, offset=np.multiply(size, start))
    out = tmp_path / "out"
    words = [*sources(layers)[2:], "--source", str(tmp_path / "two.h5"), "--out", str(out), "--source-dataset"]

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "finish", stop)
        assert main(["instances", "make", *words, "em"]) != 0
    before = contents(out)
    capsys.readouterr()
    assert main(["instances", "make", *words, "em_inverted"]) == 1
    assert "source.dataset: 'em' there, 'em_inverted' asked" in capsys.readouterr().err
    assert contents(out) == before
    assert main(["instances", "make", *words, "em"]) == 0
    assert verify(out).ok
