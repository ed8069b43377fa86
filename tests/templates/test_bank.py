"""The bank: every template comes back bit for bit, and damage is found."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxmint.errors import StorageError, TemplateBankError
from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import Template, bounding_box, pack, unpack, word_count
from voxmint.templates.writing import write_bank

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=11))


def template(name: str, mask: np.ndarray, **about: object) -> Template:
    words, shape = pack(mask)
    return Template(name, words, shape, int(mask.sum()), **about)


@pytest.fixture
def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random(tuple(rng.integers(3, 30, 3))) > 0.8 for _ in range(9)]


@pytest.fixture
def bank(tmp_path: Path, masks: list[np.ndarray]) -> TemplateBank:
    return write_bank(
        tmp_path / "bank",
        (template(f"s/{n}", mask, structure=f"kind {n % 2}", source="å.nii") for n, mask in enumerate(masks)),
    )


@settings(deadline=None)
@given(MASKS, st.sampled_from("CF"), st.sampled_from(["?", "u1", "u2", "f4"]))
def test_packing_crops_and_loses_nothing(mask: np.ndarray, order: str, dtype: str) -> None:
    """Unpacked, a packed mask is its own bounding box, whatever its type and order in memory."""
    words, shape = pack(np.asarray(mask * 3, dtype, order=order))
    if not mask.any():
        assert shape == (0, 0, 0)
        assert words.size == 0
        return
    where = np.argwhere(mask)
    box = tuple(slice(a, b + 1) for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True))
    assert bounding_box(mask) == box
    assert words.shape == (word_count(shape),)
    assert np.array_equal(unpack(words, shape), mask[box])
    assert sum(int(word).bit_count() for word in words) == mask.sum()


def test_each_voxel_has_the_documented_bit() -> None:
    """Bit (i & 3) << 4 | (j & 3) << 2 | (k & 3) of the brick (i >> 2, j >> 2, k >> 2), bricks in C order."""
    mask = np.random.default_rng(1).random((6, 9, 13)) > 0.5
    mask[[0, -1]] = True
    words, shape = pack(mask)
    assert shape == mask.shape
    for i, j, k in np.ndindex(*mask.shape):
        word = words[((i >> 2) * 3 + (j >> 2)) * 4 + (k >> 2)]
        assert bool(int(word) >> ((i & 3) << 4 | (j & 3) << 2 | (k & 3)) & 1) == mask[i, j, k]


def test_a_bank_gives_back_what_was_put_in(bank: TemplateBank, masks: list[np.ndarray]) -> None:
    """Names, shapes, counts, voxels and provenance survive."""
    assert len(bank) == len(masks)
    assert bank.names == tuple(f"s/{n}" for n in range(len(masks)))
    for n, mask in enumerate(masks):
        cropped = mask[bounding_box(mask)]
        assert bank.shape(n) == cropped.shape
        assert bank.voxel_count(n) == cropped.sum()
        assert np.array_equal(bank.mask(n), cropped)
        assert bank.provenance(n)["structure"] == f"kind {n % 2}"
        assert bank.provenance(n)["source"] == "å.nii"
    bank.verify()


@settings(max_examples=20, deadline=None)
@given(st.lists(MASKS.filter(np.any), min_size=1, max_size=5))
def test_any_templates_survive(tmp_path_factory: pytest.TempPathFactory, masks: list[np.ndarray]) -> None:
    """A bank of any masks holds them in order."""
    bank = write_bank(tmp_path_factory.mktemp("b") / "bank", (template(str(n), m) for n, m in enumerate(masks)))
    for n, mask in enumerate(masks):
        assert np.array_equal(bank.mask(n), mask[bounding_box(mask)])


def test_words_are_mapped_and_read_only(bank: TemplateBank) -> None:
    """Words are no copy, aligned, and cannot be written."""
    words = bank.words(1)
    assert not words.flags.owndata
    assert words.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        words[0] = 1


def test_plain_h5py_finds_the_documented_datasets(bank: TemplateBank) -> None:
    """The bank can be read without voxmint."""
    with h5py.File(bank.path) as file:
        first, shape = file["offset"][2], file["shape"][2]
        count = np.prod(-(-shape // 4))
        assert np.array_equal(file["words"][first : first + count], bank.words(2))
        assert file["structure_text"][file["structure"][1]] == b"kind 1"
        assert file["words"].chunks is None


def test_the_fingerprint_follows_what_decides_samples(tmp_path: Path, masks: list[np.ndarray]) -> None:
    """Names, order and voxels change it; paths and provenance do not; equal templates give equal bytes."""
    templates = [template(str(n), mask) for n, mask in enumerate(masks)]

    def fingerprint(items: list[Template]) -> str:
        return write_bank(tmp_path / "x", items).fingerprint

    original = fingerprint(templates)
    data = (tmp_path / "x").read_bytes()
    assert fingerprint(templates) == original
    assert (tmp_path / "x").read_bytes() == data
    moved = [dataclasses.replace(t, source="elsewhere", licence="other") for t in templates]
    assert fingerprint(moved) == original
    other = dataclasses.replace(templates[0], words=templates[0].words ^ np.uint64(1))
    renamed = dataclasses.replace(templates[0], name="new")
    for changed in (templates[::-1], templates[1:], [other, *templates[1:]], [renamed, *templates[1:]]):
        assert fingerprint(changed) != original


def test_every_cut_is_found(bank: TemplateBank) -> None:
    """A bank cut at any place does not open."""
    data = bank.path.read_bytes()
    for size in [0, 1, 7, 8, *range(50, len(data), 997), len(data) - 1]:
        bank.path.write_bytes(data[:size])
        with pytest.raises(TemplateBankError, match="bank"):
            TemplateBank.open(bank.path)


def test_no_flipped_bit_goes_unnoticed(bank: TemplateBank) -> None:
    """A flipped byte in words or index fails `open` or `verify`, or changes neither voxels, names nor shapes."""
    told = 0
    data = bank.path.read_bytes()
    masks = [bank.mask(n) for n in range(len(bank))]
    with h5py.File(bank.path) as file:
        start, size = file["words"].id.get_offset(), file["words"].size * 8
    positions = [*range(0, len(data), 211), *range(start, start + size, 101)]
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 0x10
        bank.path.write_bytes(changed)
        try:
            opened = TemplateBank.open(bank.path)
            opened.verify()
        except TemplateBankError:
            told += 1
            continue
        assert not start <= position < start + size
        assert opened.names == bank.names
        assert all(np.array_equal(opened.mask(n), mask) for n, mask in enumerate(masks))
    assert told >= size // 101


def test_what_is_no_bank_is_told(tmp_path: Path) -> None:
    """Missing files, other files and other HDF5 files are template bank errors with a remedy."""
    (tmp_path / "text").write_text("hello")
    with h5py.File(tmp_path / "other", "w") as file:
        file["words"] = np.arange(3)
    for name in ("missing", "text", "other"):
        with pytest.raises(TemplateBankError, match=name) as caught:
            TemplateBank.open(tmp_path / name)
        assert caught.value.remedy


def test_words_that_reach_beyond_the_end_are_not_mapped(bank: TemplateBank) -> None:
    """A whole HDF5 file whose words lie where there is no room for them."""
    with h5py.File(bank.path) as file:
        start, size = file["words"].id.get_offset(), 8 * file["words"].shape[0]
    data = bank.path.read_bytes()
    there = struct.pack("<QQ", start, size)
    assert data.count(there) == 1
    moved = (len(data) - size) // 8 * 8 + 64
    bank.path.write_bytes(data.replace(there, struct.pack("<QQ", moved, size)))
    with pytest.raises(TemplateBankError, match="damaged template bank"):
        TemplateBank.open(bank.path)


def test_an_index_without_end_is_not_read(bank: TemplateBank) -> None:
    """An index that claims more than the file holds, or names that are no text, are damage."""
    path = bank.path
    for name, array, shape in (("offset", None, (1 << 50,)), ("name", np.array([b"\xff"] * len(bank)), None)):
        with h5py.File(path, "r+") as file:
            kept = file[name][()]
            del file[name]
            file.create_dataset(name, shape=shape, dtype=None if shape is None else "<i8", data=array,
                                chunks=None if shape is None else (1 << 10,))  # fmt: skip
        with pytest.raises(TemplateBankError, match=r"damaged.*(claims|decode)"):
            TemplateBank.open(path)
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = kept
    assert len(TemplateBank.open(path)) == len(bank)


def test_bad_templates_are_refused_and_nothing_is_written(tmp_path: Path, masks: list[np.ndarray]) -> None:
    """No templates, a name twice, empty ones and wrong sizes are errors; the old bank stays whole."""
    good = template("a", masks[0])
    bank = write_bank(tmp_path / "bank", [good])
    empty = Template("e", np.zeros(0, np.uint64), (0, 0, 0), 0)
    short = dataclasses.replace(good, words=good.words[1:])
    nameless, cut = (dataclasses.replace(good, name=name) for name in ("", "a\0b"))  # HDF5 ends texts with a NUL
    for bad in ([], [good, good], [empty], [short], [nameless], [cut]):
        with pytest.raises(TemplateBankError, match=r"bank|tree"):
            write_bank(tmp_path / "bank", bad)
        assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    TemplateBank.open(tmp_path / "bank").verify()
    with pytest.raises(TemplateBankError, match="some tree"):
        write_bank(tmp_path / "new", [], origin="some tree")
    assert bank.fingerprint == TemplateBank.open(tmp_path / "bank").fingerprint


def test_a_full_disk_leaves_the_old_bank(tmp_path: Path) -> None:
    """When nothing more can be written, the error has path and bytes and the old bank is whole."""
    code = """if True:
        import resource, signal, sys
        import numpy as np
        from voxmint.errors import StorageError
        from voxmint.templates.packing import Template, pack
        from voxmint.templates.writing import write_bank
        def templates(n):
            for i in range(n):
                words, shape = pack(np.ones((64, 64, 64), bool))
                yield Template(str(i), words, shape, 64**3)
        write_bank(sys.argv[1], templates(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (3_000, 100_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 200_000))
            try:
                write_bank(sys.argv[1], templates(20))
            except StorageError as error:
                assert sys.argv[1] in str(error) and "bytes" in str(error), error
            else:
                raise SystemExit("was written")
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "bank")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    TemplateBank.open(tmp_path / "bank").verify()
    with pytest.raises(StorageError, match="missing"):
        write_bank(tmp_path / "missing/bank", [template("a", np.ones((2, 2, 2), bool))])


def python_steps(path: Path) -> int:
    """Return how many bytecode instructions opening a bank takes."""
    steps = 0

    def count(frame: FrameType, event: str, _: object) -> Callable[..., object]:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        TemplateBank.open(path)
    finally:
        sys.settrace(before)
    return steps


def test_a_large_bank_opens_at_once(tmp_path: Path) -> None:
    """70,000 templates take no more Python than 70: nothing is done for each template."""
    one = template("", np.ones((5, 6, 7), bool))
    for count in (70, 70_000):
        templates = (dataclasses.replace(one, name=f"s{n}", source=f"f{n}") for n in range(count))
        write_bank(tmp_path / str(count), templates)
    few = python_steps(tmp_path / "70")
    assert few > 100
    assert python_steps(tmp_path / "70000") < 1.5 * few
    assert TemplateBank.open(tmp_path / "70000").name(69_999) == "s69999"


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc what was read and mapped")
def test_opening_reads_no_template(tmp_path: Path) -> None:
    """A bank of 32 MB opens with less than 1 MB read; one template looked at maps in little more than itself."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, 2**64, 64**3 // 64, np.uint64)
    voxels = sum(map(int.bit_count, words.tolist()))
    path = tmp_path / "bank"
    write_bank(path, (Template(f"s{n}", words, (64, 64, 64), voxels) for n in range(1000)))
    assert path.stat().st_size > 32e6
    before = bytes_read()
    bank = TemplateBank.open(path)
    assert bytes_read() - before < 1 << 20
    assert bytes_mapped(path) < 1 << 20
    assert np.array_equal(bank.words(500), words)
    assert bytes_mapped(path) < 4 << 20
    assert bytes_mapped(path) > 0


def bytes_read() -> int:
    """Return how many bytes this process has read from files, be they in the cache."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def bytes_mapped(path: Path) -> int:
    """Return how many bytes of a file's mappings are in this process's memory."""
    after = Path("/proc/self/smaps").read_text().split(f" {path}\n")[1:]
    return sum(int(entry.split("Rss:")[1].split()[0]) * 1024 for entry in after)
