"""Reading and writing NIfTI: independent readers agree, and nothing damaged gets through."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unprivileged import run_unprivileged
from voxmint.errors import InputError, StorageError
from voxmint.nifti.files import read_labels, read_volume, write_nifti

AFFINE = np.array([[1.5, 0, 0, -10], [0, 0, -2.0, 3], [0, 1.25, 0, 4], [0, 0, 0, 1.0]])


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(0).random((17, 13, 9)) > 0.7


def patched(source: bytes, **fields: object) -> bytes:
    """Return an uncompressed NIfTI-1 file with header fields replaced."""
    header = nib.Nifti1Header(source[:348], endianness="<", check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + source[348:]


@pytest.fixture
def plain(tmp_path: Path, mask: np.ndarray) -> bytes:
    write_nifti(tmp_path / "plain.nii", mask, AFFINE)
    return (tmp_path / "plain.nii").read_bytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8", "bool"])
def test_nibabel_reads_what_is_written(tmp_path: Path, suffix: str, dtype: str) -> None:
    """Values, type, axes and affine survive into an independent reader."""
    array = np.random.default_rng(1).integers(0, 2, (5, 6, 7)).astype(dtype)
    write_nifti(tmp_path / f"a{suffix}", array, AFFINE)
    image = nib.load(tmp_path / f"a{suffix}")
    assert np.array_equal(np.asanyarray(image.dataobj), array)
    assert image.get_data_dtype() == (np.uint8 if dtype == "bool" else np.dtype(dtype))
    assert np.allclose(image.affine, AFFINE)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(st.sampled_from(["u1", "u2", "u4"]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_labels_survive(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    """What is written is read back, in the smallest unsigned type."""
    path = tmp_path_factory.mktemp("n") / "a.nii.gz"
    write_nifti(path, array)
    volume = read_labels(path)
    assert np.array_equal(volume.array, array)
    assert volume.array.dtype == np.min_scalar_type(int(array.max()))
    assert volume.voxel_size_mm == (1, 1, 1)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "i8", "f8"])
def test_nibabels_files_are_read(tmp_path: Path, kind: type, order: str, dtype: str) -> None:
    """Both versions, byte orders and all types give the labels that nibabel gives, and the affine's voxel size."""
    array = np.random.default_rng(2).integers(0, 100, (4, 5, 6)).astype(dtype)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nib.save(kind(array, AFFINE, header=header, dtype=dtype), tmp_path / "a.nii.gz")
    volume = read_labels(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.array, array)
    assert volume.array.dtype == np.uint8
    assert np.allclose(volume.voxel_size_mm, (1.5, 1.25, 2.0))
    assert np.allclose(volume.affine, AFFINE)
    image = read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(image.array, array)
    assert image.array.dtype == np.dtype(dtype), "in this machine's byte order, which kernels are compiled for"


def test_scaling_is_honoured(tmp_path: Path, plain: bytes, mask: np.ndarray) -> None:
    """Labels and values are slope * stored + intercept; a slope of 0 or NaN means that nothing is scaled."""
    for slope in (0.0, np.nan):
        (tmp_path / "a.nii").write_bytes(patched(plain, scl_slope=slope, scl_inter=np.nan))
        assert np.array_equal(read_labels(tmp_path / "a.nii").array, mask)
    (tmp_path / "a.nii").write_bytes(patched(plain, scl_slope=300.0, scl_inter=5.0))
    assert np.array_equal(read_labels(tmp_path / "a.nii").array, np.where(mask, 305, 5))
    assert read_labels(tmp_path / "a.nii").array.dtype == np.uint16
    (tmp_path / "a.nii").write_bytes(patched(plain, scl_slope=0.5, scl_inter=0.25))
    assert np.array_equal(read_volume(tmp_path / "a.nii").array, np.where(mask, 0.75, 0.25))


def test_volumes_keep_their_type(tmp_path: Path) -> None:
    """Views are read as the integers or floats they are."""
    array = np.random.default_rng(3).random((3, 4, 5)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", array)
    volume = read_volume(tmp_path / "a.nii.gz").array
    assert volume.dtype == np.float32
    assert np.array_equal(volume, array)


def test_a_last_axis_of_one_and_several_members_are_accepted(tmp_path: Path, plain: bytes, mask: np.ndarray) -> None:
    """A 4D file of one volume is one volume; gzip may come in members and end in zeros."""
    data = patched(plain, dim=[4, *mask.shape, 1, 1, 1, 1])
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]) + bytes(99))
    assert np.array_equal(read_labels(tmp_path / "a.nii.gz").array, mask)


def test_equal_volumes_give_equal_bytes(tmp_path: Path, mask: np.ndarray) -> None:
    """Neither time, name nor memory order gets into a file."""
    write_nifti(tmp_path / "a.nii.gz", mask)
    write_nifti(tmp_path / "b.nii.gz", np.asfortranarray(mask))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[3:8] == bytes(5)


def test_every_cut_is_found(tmp_path: Path, mask: np.ndarray) -> None:
    """A gzip file cut at any byte is an error that names the file."""
    write_nifti(tmp_path / "a.nii.gz", mask)
    data = (tmp_path / "a.nii.gz").read_bytes()
    cut = tmp_path / "cut.nii.gz"
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"cut\.nii\.gz"):
            read_labels(cut)


def test_no_flipped_bit_changes_a_voxel(tmp_path: Path, mask: np.ndarray) -> None:
    """A flipped bit is an error, unless what is unpacked is still the same to the last bit (time stamp, padding)."""
    write_nifti(tmp_path / "a.nii.gz", mask, AFFINE)
    data = (tmp_path / "a.nii.gz").read_bytes()
    flipped, harmless = tmp_path / "flipped.nii.gz", 0
    for position in range(0, 8 * len(data), 7):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        flipped.write_bytes(changed)
        try:
            volume = read_labels(flipped)
        except InputError:
            continue
        harmless += 1
        assert np.array_equal(volume.array, mask)
        assert np.allclose(volume.affine, AFFINE)
    assert harmless < 0.2 * 8 * len(data) / 7


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"dim": [3, 10_000, 10_000, 10_000, 1, 1, 1, 1]}, "too many voxels"),
        ({"dim": [3, 400, 400, 400, 1, 1, 1, 1]}, "more voxels than the file can hold"),
        ({"dim": [3, 17, 0, 9, 1, 1, 1, 1]}, "17 x 0 x 9"),
        ({"dim": [3, 17, -13, 9, 1, 1, 1, 1]}, "-13"),
        ({"dim": [2, 17, 13, 1, 1, 1, 1, 1]}, "not one 3D volume"),
        ({"dim": [4, 17, 13, 3, 3, 1, 1, 1]}, "not one 3D volume"),
        ({"dim": [5, 17, 13, 3, 1, 3, 1, 1]}, "not one 3D volume"),
        ({"dim": [-7, 17, 13, 3, 1, 3, 1, 1]}, "not one 3D volume"),
        ({"datatype": 128, "bitpix": 24}, "RGB"),
        ({"datatype": 2304, "bitpix": 32}, "RGBA"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"datatype": 0}, "unknown"),
        ({"magic": b"ni1"}, "wrong magic"),
        ({"sizeof_hdr": 347}, "not a NIfTI file"),
        ({"vox_offset": 1e30}, "vox_offset"),
        ({"vox_offset": float("nan")}, "vox_offset"),
        ({"srow_x": [np.nan] * 4}, "NaN"),
        ({"srow_x": [0, 0, 0, 5.0]}, "singular"),
        ({"srow_x": [0, 1.0, 0, 0], "srow_y": [0, 2.0, 0, 0]}, "singular"),
        ({"scl_slope": np.inf}, "scaling"),
        ({"scl_slope": 0.5}, "0.5 at voxel"),
        ({"scl_slope": -1.0}, "-1.0 at voxel"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_bad_header_is_refused(tmp_path: Path, plain: bytes, fields: dict, text: str, suffix: str) -> None:
    """Each error names the file and shows what was found."""
    path = tmp_path / f"bad{suffix}"
    data = patched(plain, **fields)
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    with pytest.raises(InputError) as caught:
        read_labels(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    if "400" in text or "too many" in text:
        assert caught.value.remedy


@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [("f4", np.nan, "nan"), ("f4", 1.5, "1.5"), ("f8", -2.0, "-2.0"), ("i2", -3, "-3"), ("f8", 2.0**32, "4294967296.0"),
     ("i8", 2**32, "4294967296"), ("u8", 2**63, "9223372036854775808"), ("f4", np.inf, "inf")],
)  # fmt: skip
def test_a_value_that_is_no_label_is_named(tmp_path: Path, dtype: str, value: float, shown: str) -> None:
    """The error gives the value and its voxel."""
    array = np.ones((30, 40, 50), dtype)
    array[3, 20, 41] = value
    write_nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "a.nii.gz")
    assert f"{shown} at voxel (3, 20, 41)" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_absurd_claims_cost_no_memory(tmp_path: Path, plain: bytes) -> None:
    """Headers of 10^12 voxels, of gigabytes that a bomb could hold, or of less than follows: 256 MB, little is read."""
    noise = os.urandom(24 << 20)
    huge = patched(plain, dim=[3, 10_000, 10_000, 10_000, 1, 1, 1, 1])
    bomb = patched(plain, dim=[3, 1200, 1200, 1200, 1, 1, 1, 1]) + noise[: 2 << 20]
    for name, content in {"huge": huge + noise, "short": bomb, "long": plain + noise}.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(gzip.compress(content, 1))
    (tmp_path / "zeros.nii.gz").write_bytes(gzip.compress(plain + bytes(300 << 20), 1))
    code = """if True:
        import sys
        from pathlib import Path
        from voxmint.errors import InputError
        from voxmint.nifti.files import read_labels
        import nibabel, isal
        def bytes_read():
            return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])
        for path in sys.argv[1:]:
            before = bytes_read()
            try:
                read_labels(path)
            except InputError as error:
                assert path in str(error)
            else:
                raise SystemExit(f"{path} was read")
            assert bytes_read() - before < 4 << 20, path
        # not ru_maxrss: that counts the parent's memory from before exec
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    """
    paths = [str(path) for path in sorted(tmp_path.glob("*.nii.gz"))]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256 * 1024


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Missing, empty, a folder, a pipe, and text are errors, never waits or tracebacks of another kind."""
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "text.nii").write_text("not a volume\n" * 99)
    os.mkfifo(tmp_path / "pipe.nii")
    for name in ("missing.nii", "empty.nii.gz", "folder.nii.gz", "text.nii", "pipe.nii"):
        with pytest.raises(InputError, match=name):
            read_labels(tmp_path / name)


def test_a_forbidden_file_is_told(tmp_path: Path, mask: np.ndarray) -> None:
    """A file without read permission is an input error that says so; the one beside it can be read."""
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", mask)
    (tmp_path / "a.nii.gz").chmod(0)
    code = """if True:
        import sys
        from voxmint.errors import InputError
        from voxmint.nifti.files import read_labels
        read_labels(sys.argv[1] + "/b.nii.gz")
        try:
            read_labels(sys.argv[1] + "/a.nii.gz")
        except InputError as error:
            print(error)
    """
    told = run_unprivileged(code, tmp_path)
    assert "permissions" in told
    assert "a.nii.gz" in told


def test_trailing_garbage_is_found(tmp_path: Path, mask: np.ndarray) -> None:
    """Bytes after the gzip data that are neither gzip nor zero padding are an error."""
    write_nifti(tmp_path / "a.nii.gz", mask)
    path = tmp_path / "b.nii.gz"
    path.write_bytes((tmp_path / "a.nii.gz").read_bytes() + struct.pack("<d", 1.5))
    with pytest.raises(InputError, match="no gzip"):
        read_labels(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, mask: np.ndarray) -> None:
    """A full device or a missing folder is a StorageError with the path; no temporary file stays."""
    with pytest.raises(StorageError, match=r"missing/a\.nii"):
        write_nifti(tmp_path / "missing/a.nii", mask)
    code = """if True:
        import resource, signal, sys
        import numpy as np
        from voxmint.errors import StorageError
        from voxmint.nifti.files import write_nifti
        write_nifti(sys.argv[1], np.ones((4, 4, 4), np.uint8))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_nifti(sys.argv[1], np.random.default_rng(0).integers(0, 255, (99, 99, 99)).astype(np.uint8))
        except StorageError as error:
            assert sys.argv[1] in str(error) and "bytes" in str(error) and error.remedy, error
        else:
            raise SystemExit("was written")
    """
    target = tmp_path / "b.nii.gz"
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_labels(target).array.shape == (4, 4, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["b.nii.gz"]
