"""Volumes read as slabs: nothing is lost between two, and memory is that of what is kept."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxmint.errors import InputError
from voxmint.nifti import memory, slabs
from voxmint.nifti.files import read_labels, read_volume, write_nifti
from voxmint.templates import reading
from voxmint.templates.packing import bounding_box
from voxmint.templates.reading import read_union


@pytest.mark.parametrize("voxels", [1, 3, 7, 20, 77, 100, 1000])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_size_of_slabs_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voxels: int, suffix: str
) -> None:
    """Parts of a row, rows or slices: labels, values and what templates keep are those of the whole array."""
    monkeypatch.setattr(slabs, "_SLAB", voxels)
    labels = np.zeros((7, 11, 5), np.uint16)
    labels[2:5, 3:9, 1:4] = np.random.default_rng(0).integers(0, 3, (3, 6, 3))
    labels[4, 8, 3], labels[2, 3, 1] = 700, 1
    write_nifti(tmp_path / f"a{suffix}", labels)
    write_nifti(tmp_path / f"b{suffix}", labels[::-1] == 1)
    write_nifti(tmp_path / f"c{suffix}", labels / 8)
    a, b = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    read = read_labels(a).array
    assert read.dtype == np.uint16
    assert np.array_equal(read, labels)
    assert np.array_equal(read_volume(tmp_path / f"c{suffix}").array, labels / 8)
    for paths, whole in (([a], labels), ([b], labels[::-1] == 1), ([a, b], (labels != 0) | (labels[::-1] == 1))):
        part = read_union(paths)
        box = bounding_box(whole)
        assert np.array_equal(part.array, whole[box])
        assert part.start == tuple(s.start for s in box)
        assert np.array_equal(part.whole(), whole)
    labels[6, 10, 4] = 3
    bad = labels.astype(np.float32)
    bad[6, 9, 4] = 0.5
    write_nifti(a, bad)
    with pytest.raises(InputError, match=r"0\.5 at voxel \(6, 9, 4\)"):
        read_labels(a)


def zeros(path: Path, shape: tuple[int, int, int]) -> None:
    """Write a small file of very many zeros."""
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    voxels = int(np.prod(shape))
    many, rest = divmod(voxels, 1 << 24)
    members = [header.binaryblock + bytes(4 + rest), *[bytes(1 << 24)] * min(1, many)]
    first, *zero = [gzip.compress(member, 1) for member in members]
    path.write_bytes(first + b"".join(zero) * many)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_claim_that_is_true_costs_what_is_kept(tmp_path: Path) -> None:
    """Hundreds of millions of zeros, also in few slices, take no memory as templates, and are refused as an array."""
    zeros(tmp_path / "cube.nii.gz", (800, 900, 700))
    zeros(tmp_path / "slice.nii.gz", (32767, 16000, 1))
    code = """if True:
        import resource, sys
        from pathlib import Path
        from voxmint.errors import InputError
        from voxmint.nifti.files import read_labels, read_volume
        from voxmint.templates.folders import open_source
        import nibabel, isal.igzip
        def status(name):
            return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
        for path in sys.argv[1:]:
            assert open_source(path).templates(0, {}, {}) == []
        print(status("VmHWM"))
        resource.setrlimit(resource.RLIMIT_AS, (1024 * status("VmSize") + (200 << 20),) * 2)
        for path in sys.argv[1:]:
            for read in (read_labels, read_volume):
                try:
                    read(path)
                except InputError as error:
                    assert path in str(error) and "not enough memory" in str(error) and error.remedy, error
                    assert "75%" in error.expected and "voxels" in error.got, error
                else:
                    raise SystemExit(f"{path} was read")
    """
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150 * 1024


def test_what_is_kept_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that is set everywhere is refused before it is put together if it would not fit."""
    write_nifti(tmp_path / "full.nii.gz", np.ones((200, 200, 200), np.uint8))
    monkeypatch.setattr(memory, "_SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 10_600_000)
    monkeypatch.setattr(
        reading, "check_room", lambda n, what, path: "until" in what or memory.check_room(n, what, path)
    )
    with pytest.raises(InputError, match=r"at most 75% of the 11 MB") as caught:
        read_union([tmp_path / "full.nii.gz"])
    assert "8 MB (200 x 200 x 200 voxels" in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setattr(memory, "_SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 1_000_000)
    with pytest.raises(InputError, match=r"until now"):
        read_union([tmp_path / "full.nii.gz"])


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """The limit of a group above this process's own, of either version, is known, without what can be given back."""
    top = tmp_path if version == 2 else tmp_path / "memory"
    (top / "job/step").mkdir(parents=True)
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for folder, limit in ((top / "job", "5000000"), (top / "job/step", "max" if version == 2 else str(2**63 - 4096))):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text("3000000\n")
        (folder / "memory.stat").write_text(f"anon 7\n{names[2]} 1000000\n")
    plain = memory._lines
    line = "0::/job/step" if version == 2 else "9:memory:/job/step"
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_lines", lambda path: [line] if path == "/proc/self/cgroup" else plain(path))
    assert memory.available() == 3_000_000
    (top / "job" / names[0]).unlink()
    assert memory.available() > 3_000_000


def test_a_lack_of_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system refuses memory after all, the file is named."""
    write_nifti(tmp_path / "a.nii.gz", np.ones((9, 9, 9)))

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", refuse)
    for read in (read_labels, read_volume):
        with pytest.raises(InputError, match=r"a\.nii\.gz: not enough memory") as caught:
            read(tmp_path / "a.nii.gz")
        assert caught.value.remedy
