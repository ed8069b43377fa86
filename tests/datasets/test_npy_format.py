"""The tree of .npy files, in a folder and in buckets."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import ToySampler, contents

sys.path.insert(0, str(Path(__file__).parents[1] / "volumes"))

from voxmint.datasets.format import Format, Target, format_from_spec
from voxmint.datasets.npy import NpyFormat, npy_header
from voxmint.errors import InputError, PlanError, StorageError
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify
from voxmint.sample import Sample

SHAPE = (4, 6, 5)
NAMES = ("source", "seed", "target", "valid")
LAYOUT = {name: (SHAPE, "uint8") for name in NAMES}
SLOW = ToySampler(length=20, seconds=0.02)


def instance(index: int, scenarios: int) -> Sample:
    """Scenarios of one instance share all but the seed."""
    row, scenario = divmod(index, scenarios)
    arrays = {name: np.full(SHAPE, 10 * row + n, np.uint8) for n, name in enumerate(NAMES)}
    arrays["seed"] = np.full(SHAPE, 100 + index, np.uint8)
    return Sample(index, f"{row}_{scenario}" if scenarios > 1 else f"{row}", arrays)


def written(directory: Path, store: NpyFormat, count: int) -> tuple[Target, list[Any]]:
    target = Target(directory, count, LAYOUT, note="note")
    store.check(target)
    store.begin(target)
    return target, [store.write(target, instance(index, store.scenarios)) for index in range(count)]


def run(sampler: ToySampler, store: Format, directory: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, that may be killed."""
    job = {"sampler": sampler.spec(), "format": store.spec(), "directory": str(directory), "workers": 2}
    drive = Path(__file__).parents[1] / "runs" / "drive.py"
    return subprocess.Popen([sys.executable, str(drive), json.dumps(job)], start_new_session=True)


def test_published_names_and_plain_numpy(tmp_path: Path) -> None:
    """Image, mask and seed lie where the published generator puts them, and `numpy.load` reads them."""
    _, files = written(tmp_path, NpyFormat(), 2)
    arrays = instance(1, 1).arrays
    for name, array in (
        ("source/source_1.npy", arrays["source"]),
        ("gt/target_1.npy", arrays["target"]),
        ("target/augmented_target_1.npy", arrays["seed"]),
        ("valid/valid_1.npy", arrays["valid"]),
    ):
        assert np.array_equal(np.load(tmp_path / name, allow_pickle=False), array)
        assert name in {file["file"] for file in files[1]}
    assert len(contents(tmp_path)) == 8


def test_scenarios_share_one_image(tmp_path: Path) -> None:
    """With several scenarios only the seed carries their number; each sample is read back whole."""
    store = NpyFormat(scenarios=3)
    target, _ = written(tmp_path, store, 6)
    assert sorted(contents(tmp_path)) == sorted(
        [f"{folder}_{row}.npy" for folder in ("source/source", "gt/target", "valid/valid") for row in range(2)]
        + [f"target/augmented_target_{row}_{scenario}.npy" for row in range(2) for scenario in range(3)]
    )
    for index in range(6):
        sample = instance(index, 3)
        read = store.read(target, index, sample.key)
        assert all(np.array_equal(read[name], array) for name, array in sample.arrays.items())
        assert {name: paths[0].is_file() for name, paths in store.files(target, index, sample.key).items()} == (
            dict.fromkeys(NAMES, True)
        )


def test_a_shared_file_that_was_lost_is_written_again(tmp_path: Path) -> None:
    """The next scenario does not trust that it is still there."""
    store = NpyFormat(scenarios=2)
    target, _ = written(tmp_path, store, 1)
    (tmp_path / "source/source_0.npy").unlink()
    store.write(target, instance(1, 2))
    assert (tmp_path / "source/source_0.npy").is_file()


def test_a_shared_file_of_other_content_is_written_again(tmp_path: Path) -> None:
    """That a shared file was written last is no reason to keep it when the next scenario has other bytes for it."""
    store = NpyFormat(scenarios=2)
    target, _ = written(tmp_path, store, 1)
    other = instance(1, 2)
    other = dataclasses.replace(other, arrays={**other.arrays, "source": other.arrays["source"] + 1})
    store.write(target, other)
    assert np.array_equal(store.read(target, 1, other.key)["source"], other.arrays["source"])


def test_files_of_another_header_or_length_are_refused(tmp_path: Path) -> None:
    """A header of another shape or type, a byte too many and one too few are errors, though the data are there."""
    store = NpyFormat()
    target, _ = written(tmp_path, store, 1)
    path = tmp_path / "source/source_0.npy"
    whole = path.read_bytes()
    data = whole[len(npy_header(SHAPE, "uint8")) :]
    for damaged in (
        npy_header(SHAPE[::-1], "uint8") + data,
        npy_header(SHAPE, "int8") + data,
        whole + b"\0",
        whole[:-1],
        b"",
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"source_0\.npy"):
            store.read(target, 0, "0")
    path.write_bytes(whole)
    assert np.array_equal(store.read(target, 0, "0")["source"], instance(0, 1).arrays["source"])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (1, 70, 1, 5)])
def test_headers_are_numpy_s_own_kind(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Version 1.0, data at a multiple of 64, shape and type as `numpy.load` understands them."""
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    header = npy_header(shape, dtype)
    assert len(header) % 64 == 0
    (tmp_path / "a.npy").write_bytes(header + array.tobytes())
    back = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_a_run_is_verified_and_every_flipped_byte_found(tmp_path: Path) -> None:
    """A finished run is as recorded; a byte changed anywhere is found, with file and sample."""
    assert execute(ToySampler(length=3), NpyFormat(), tmp_path, workers=1).complete
    assert verify(tmp_path).ok
    path = next((tmp_path / "img").iterdir())
    data = path.read_bytes()
    for place in (0, 9, 70, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert next(problem.file for problem in verify(tmp_path).problems) == f"img/{path.name}"
    path.write_bytes(data)
    (tmp_path / "img" / "img_stranger.npy").write_bytes(b"")
    assert [str(problem) for problem in verify(tmp_path).problems] == [
        "img/img_stranger.npy: is not part of the data set"
    ]


def test_killed_at_random_moments_and_finished(tmp_path: Path) -> None:
    """SIGKILL of everything, twice, in a folder and with the arrays elsewhere: the bytes of an uninterrupted run."""
    places = {"here": lambda name: None, "there": lambda name: str(tmp_path / f"{name}-arrays")}
    seed, landed = random.SystemRandom().randrange(10**9), 0
    print(f"seed {seed}")
    rng = random.Random(seed)
    for kind, root in places.items():
        whole, cut = f"{kind}-whole", f"{kind}-cut"
        started = time.monotonic()
        assert run(SLOW, NpyFormat(root(whole)), tmp_path / whole).wait(60) == 0
        seconds = time.monotonic() - started
        for _ in range(2):
            process = run(SLOW, NpyFormat(root(cut)), tmp_path / cut)
            time.sleep(rng.uniform(0.4, 0.9) * seconds)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                landed += 1
            process.wait(60)
            if (tmp_path / cut / "recipe.yaml").exists():
                assert verify(tmp_path / cut).ok
        assert run(SLOW, NpyFormat(root(cut)), tmp_path / cut).wait(60) == 0
        if kind == "here":
            assert contents(tmp_path / cut) == contents(tmp_path / whole)
        else:
            arrays = [contents(tmp_path / f"{name}-arrays") for name in (whole, cut)]
            for summary in ("recipe.yaml", "manifest.jsonl"):  # these name the place
                assert arrays[1][summary] == (tmp_path / cut / summary).read_bytes()
                assert arrays[0].pop(summary) != arrays[1].pop(summary)
            assert arrays[0] == arrays[1]
            assert len(arrays[0]) == 2 * 20 + 1
    assert landed, "no kill landed while a run was going on"


def test_samples_whose_checksums_are_lost_are_made_again(tmp_path: Path) -> None:
    """When the manifest's lines of a sample are damaged, a repair ends in the bytes of before."""
    sampler = ToySampler(length=3, side=4)
    execute(sampler, NpyFormat(), tmp_path, workers=1)
    whole = contents(tmp_path)
    (tmp_path / "manifest.jsonl").write_bytes(whole["manifest.jsonl"][:-9])
    assert repair(sampler, NpyFormat(), tmp_path, workers=1).made == 1
    assert contents(tmp_path) == whole


def test_a_place_of_another_data_set_is_refused(tmp_path: Path) -> None:
    """Two data sets in one place, from two folders: the second is refused and nothing is mixed."""
    store = NpyFormat(str(tmp_path / "place"))
    execute(ToySampler(length=2), store, tmp_path / "one", workers=1)
    before = contents(tmp_path / "place")
    with pytest.raises(PlanError, match="of another origin"):
        execute(ToySampler(length=2, seed=1), store, tmp_path / "two", workers=1)
    (tmp_path / "three").mkdir()
    with pytest.raises(PlanError, match="another data set"):
        store.begin(Target(tmp_path / "three", 2, ToySampler().layout(), note="another"))
    assert contents(tmp_path / "place") == before


def test_lost_and_cut_files_elsewhere_are_found(tmp_path: Path) -> None:
    """`verify` reads the arrays where they are, and names what is missing, cut or changed."""
    execute(ToySampler(length=3), NpyFormat(str(tmp_path / "place")), tmp_path / "run", workers=1)
    assert verify(tmp_path / "run").ok
    first, second, third = sorted((tmp_path / "place/img").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    third.write_bytes(third.read_bytes()[:-1] + b"\0")
    problems = verify(tmp_path / "run").problems
    assert sorted(problem.sample for problem in problems) == [0, 1, 2]
    assert all("img/img_" in problem.file for problem in problems)


@pytest.mark.parametrize("summary", ["records.jsonl", "rejected.csv"])
def test_manifest_elsewhere_comes_last(tmp_path: Path, summary: str) -> None:
    """Where another summary cannot be put there is no manifest yet; when it can, the same command ends what is left."""
    sampler, store = ToySampler(length=3, side=4, rejected={"1": "no mask"}), NpyFormat(str(tmp_path / "place"))
    (tmp_path / "place" / summary / "in the way").mkdir(parents=True)
    with pytest.raises(StorageError, match=summary):
        execute(sampler, store, tmp_path / "run", workers=1)
    assert not (tmp_path / "place/manifest.jsonl").exists()
    shutil.rmtree(tmp_path / "place" / summary)
    assert execute(sampler, store, tmp_path / "run", workers=1).complete
    for name in ("recipe.yaml", "records.jsonl", "rejected.csv", "manifest.jsonl"):
        assert (tmp_path / "place" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.parametrize("path", ["/abs/{key}.npy", "../{key}.npy", "fixed.npy", "{key}.txt", "a/../../{id}.npy"])
def test_paths_outside_the_place_are_refused(path: str) -> None:
    """A path stays below the place and holds the key."""
    with pytest.raises(PlanError):
        NpyFormat(paths={"seed": path})


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Samples of unlike shapes, an unknown kind of address, an array of another shape, a file of another."""
    with pytest.raises(PlanError, match="one fixed shape"):
        NpyFormat().check(Target(tmp_path, 1, {}))
    with pytest.raises(StorageError, match="unknown kind of address"):
        NpyFormat("ftp://host/x").check(Target(tmp_path, 1, LAYOUT))
    with pytest.raises(PlanError, match="scenarios"):
        NpyFormat(scenarios=0)
    target, _ = written(tmp_path, NpyFormat(), 1)
    sample = instance(0, 1)
    wrong = dataclasses.replace(sample, arrays={**sample.arrays, "seed": np.zeros((1, 2, 3), np.uint8)})
    with pytest.raises(StorageError, match="does not fit"):
        NpyFormat().write(target, wrong)
    transposed = dataclasses.replace(sample, arrays={**sample.arrays, "seed": sample.arrays["seed"].swapaxes(0, 1)})
    with pytest.raises(StorageError, match="does not fit"):
        NpyFormat().write(target, transposed)
    np.save(tmp_path / "gt/target_0.npy", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"target_0\.npy"):
        NpyFormat().read(target, 0, "0")


def test_space_is_told_to_the_byte(tmp_path: Path) -> None:
    """What the plan says is what is written; elsewhere, nothing of this disk."""
    store = NpyFormat(scenarios=2)
    target = Target(tmp_path, 4, LAYOUT)
    said = store.remaining_bytes(target, 0)
    written(tmp_path, store, 4)
    assert said == sum(len(data) for data in contents(tmp_path).values())
    assert NpyFormat("s3://bucket/x").remaining_bytes(target, 0) == 0


def test_spec_round_trip() -> None:
    """A format equals the one built from its spec."""
    store = NpyFormat("gs://bucket/x", 3, {"seed": "s/{key}.npy"})
    assert format_from_spec(store.spec()) == store
