"""The tree of .npy files, in a folder and in buckets."""

from __future__ import annotations

import dataclasses
import json
import os
import random
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

from voxmint.datasets.format import Format, Output, format_from_spec
from voxmint.datasets.npy import NpyFormat, npy_header
from voxmint.errors import InputError, PlanError, StorageError
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify
from voxmint.sample import Sample
from voxmint.stores.place import Place

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


def written(directory: Path, format: NpyFormat, count: int) -> tuple[Output, list[Any]]:
    output = Output(directory, count, LAYOUT, note="note")
    format.check(output)
    format.begin(output)
    return output, [format.write(output, instance(index, format.scenarios)) for index in range(count)]


def run(sampler: ToySampler, format: Format, directory: Path | str) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, that may be killed."""
    job = {"sampler": dataclasses.asdict(sampler), "format": format.spec(), "directory": str(directory), "workers": 2}
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
    format = NpyFormat(scenarios=3)
    output, _ = written(tmp_path, format, 6)
    assert sorted(contents(tmp_path)) == sorted(
        [f"{folder}_{row}.npy" for folder in ("source/source", "gt/target", "valid/valid") for row in range(2)]
        + [f"target/augmented_target_{row}_{scenario}.npy" for row in range(2) for scenario in range(3)]
    )
    for index in range(6):
        sample = instance(index, 3)
        read = format.read(output, index, sample.key)
        assert all(np.array_equal(read[name], array) for name, array in sample.arrays.items())
        assert {
            name: (tmp_path / paths[0]).is_file() for name, paths in format.files(output, index, sample.key).items()
        } == (dict.fromkeys(NAMES, True))


def test_a_shared_file_that_was_lost_is_written_again(tmp_path: Path) -> None:
    """The next scenario does not trust that it is still there."""
    format = NpyFormat(scenarios=2)
    output, _ = written(tmp_path, format, 1)
    (tmp_path / "source/source_0.npy").unlink()
    format.write(output, instance(1, 2))
    assert (tmp_path / "source/source_0.npy").is_file()


def test_a_shared_file_of_other_content_is_written_again(tmp_path: Path) -> None:
    """That a shared file was written last is no reason to keep it when the next scenario has other bytes for it."""
    format = NpyFormat(scenarios=2)
    output, _ = written(tmp_path, format, 1)
    other = instance(1, 2)
    other = dataclasses.replace(other, arrays={**other.arrays, "source": other.arrays["source"] + 1})
    format.write(output, other)
    assert np.array_equal(format.read(output, 1, other.key)["source"], other.arrays["source"])


def test_files_of_another_header_or_length_are_refused(tmp_path: Path) -> None:
    """A header of another shape or type, a byte too many and one too few are errors, though the data are there."""
    format = NpyFormat()
    output, _ = written(tmp_path, format, 1)
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
            format.read(output, 0, "0")
    path.write_bytes(whole)
    assert np.array_equal(format.read(output, 0, "0")["source"], instance(0, 1).arrays["source"])


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
    """SIGKILL of everything, twice: the bytes of an uninterrupted run."""
    kill_and_finish(tmp_path / "whole", tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def kill_and_finish(whole: Path | str, cut: Path | str) -> None:
    """Make one data set undisturbed, and another one with two kills at random moments."""
    seed, landed = random.SystemRandom().randrange(10**9), 0
    print(f"seed {seed}")
    rng = random.Random(seed)
    started = time.monotonic()
    assert run(SLOW, NpyFormat(), whole).wait(60) == 0
    seconds = time.monotonic() - started
    for earliest, latest in ((0.3, 0.55), (0.4, 0.9)):  # the first run took longer than these do: it began cold
        process = run(SLOW, NpyFormat(), cut)
        time.sleep(rng.uniform(earliest, latest) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            landed += 1
        process.wait(60)
        if Place(cut).exists("recipe.yaml"):
            assert verify(cut).ok
    assert run(SLOW, NpyFormat(), cut).wait(60) == 0
    assert landed, "no kill landed while a run was going on"


def test_samples_whose_checksums_are_lost_are_made_again(tmp_path: Path) -> None:
    """When the manifest's lines of a sample are damaged, a repair ends in the bytes of before."""
    sampler = ToySampler(length=3, side=4)
    execute(sampler, NpyFormat(), tmp_path, workers=1)
    whole = contents(tmp_path)
    lines = whole["manifest.jsonl"].splitlines(keepends=True)
    lines[-2] = lines[-2][:-9] + b"\n"  # the last one is the end of all lines
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines))
    assert repair(sampler, NpyFormat(), tmp_path, workers=1).made == 1
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("path", ["/abs/{key}.npy", "../{key}.npy", "fixed.npy", "{key}.txt", "a/../../{id}.npy"])
def test_paths_outside_the_place_are_refused(path: str) -> None:
    """A path stays below the place and holds the key."""
    with pytest.raises(PlanError):
        NpyFormat(paths={"seed": path})


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Samples of unlike shapes, an unknown kind of address, an array of another shape, a file of another."""
    with pytest.raises(PlanError, match="one fixed shape"):
        NpyFormat().check(Output(tmp_path, 1, {}))
    with pytest.raises(StorageError, match="unknown kind of address"):
        NpyFormat().check(Output(tmp_path, 1, LAYOUT, url="ftp://host/x"))
    with pytest.raises(PlanError, match="scenarios"):
        NpyFormat(scenarios=0)
    output, _ = written(tmp_path, NpyFormat(), 1)
    sample = instance(0, 1)
    wrong = dataclasses.replace(sample, arrays={**sample.arrays, "seed": np.zeros((1, 2, 3), np.uint8)})
    with pytest.raises(StorageError, match="does not fit"):
        NpyFormat().write(output, wrong)
    transposed = dataclasses.replace(sample, arrays={**sample.arrays, "seed": sample.arrays["seed"].swapaxes(0, 1)})
    with pytest.raises(StorageError, match="does not fit"):
        NpyFormat().write(output, transposed)
    np.save(tmp_path / "gt/target_0.npy", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"target_0\.npy"):
        NpyFormat().read(output, 0, "0")


def test_space_is_told_to_the_byte(tmp_path: Path) -> None:
    """What the plan says is what is written; elsewhere, nothing of this disk."""
    format = NpyFormat(scenarios=2)
    output = Output(tmp_path, 4, LAYOUT)
    said = format.remaining_bytes(output, 0)
    written(tmp_path, format, 4)
    assert said == sum(len(data) for data in contents(tmp_path).values())
    assert format.remaining_bytes(dataclasses.replace(output, url="s3://bucket/x"), 0) == 0


def test_spec_round_trip() -> None:
    """A format equals the one built from its spec."""
    format = NpyFormat(scenarios=3, paths={"seed": "s/{key}.npy"})
    assert format_from_spec(format.spec()) == format
