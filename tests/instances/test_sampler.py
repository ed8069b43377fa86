"""The sampler: a pure function of an index, alone and as a stream, here and in another process."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmint.errors import ChunkError, InputError, PlanError, RecipeError, RejectedSample
from voxmint.generators import remote
from voxmint.instances.cut.ahead import AHEAD, AHEAD_BYTES, by_place, rows_ahead
from voxmint.instances.recipe import ChoiceRecipe, FewRecipe, InstanceRecipe, OutlineErrorRecipe, SeedRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.rows import load_rows, rows_fingerprint, rows_of, save_rows
from voxmint.instances.table.table import Instance
from voxmint.sample import Failed, Rejected, Sample, Sampler
from voxmint.volumes.box import Box
from voxmint.volumes.layer import Cutout, Layer
from voxmint.volumes.opening import open_layer
from voxmint.volumes.pieces import Pieces

SOURCE_NM, TARGET_NM = (4, 4, 33), (8, 8, 33)
RECIPE = InstanceRecipe(crop_vx=(24, 20, 8), scenarios=3)
ROWS = 24
EMPTY_ROW = 5


def arrays() -> tuple[Any, Any]:
    """Return a noisy source and a target of blobs, (x, y, z)."""
    random = np.random.Generator(np.random.Philox(1))
    source = random.integers(0, 256, (240, 240, 24), dtype=np.uint8)
    target = np.zeros((120, 120, 24), np.uint64)
    grid = np.ogrid[:120, :120, :24]
    for number, (x, y, z) in enumerate(places()):
        near = ((grid[0] - x) / 5) ** 2 + ((grid[1] - y) / 5) ** 2 + ((grid[2] - z) / 3) ** 2 < 1
        if number != EMPTY_ROW:
            target[near & (target == 0)] = number + 1
    return source, target


def places() -> list[list[int]]:
    return [[12 + 19 * (n % 6), 14 + 30 * (n // 6), (5 * n) % 24] for n in range(ROWS)]


def rows() -> list[Instance]:
    return [
        Instance(100 + n, n, tuple(float(c * s) for c, s in zip(place, TARGET_NM, strict=True)))
        for n, place in enumerate(places())
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both layers as .npy files."""
    folder = tmp_path_factory.mktemp("layers")
    for name, array in zip(("source", "target"), arrays(), strict=True):
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    return folder


@pytest.fixture
def layers(files: Path) -> Iterator[tuple[Layer, Layer]]:
    opened = tuple(
        open_layer(files / f"{name}.npy", voxel_size_nm=size, axes="xyz")
        for name, size in (("source", SOURCE_NM), ("target", TARGET_NM))
    )
    yield opened[0], opened[1]
    for layer in opened:
        layer.close()


def by_index(results: Iterator[Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for result in results:
        assert result.index not in found
        found[result.index] = result
    return found


def test_it_is_a_sampler(layers: tuple[Layer, Layer]) -> None:
    """It meets the protocol; lengths, keys and layout say what a sample is."""
    sampler = InstanceSampler(RECIPE, *layers, rows(), seed=3)
    assert isinstance(sampler, Sampler)
    assert len(sampler) == ROWS * 3
    sample = sampler[7]
    assert sample.key == "102_1"
    assert sample.index == 7
    assert set(sample.arrays) == set(sampler.arrays)
    assert {n: (a.shape, str(a.dtype)) for n, a in sample.arrays.items()} == sampler.layout()
    assert sampler.layout()["source"][0] == (8, 40, 48)
    json.dumps([sample.record, sampler.definition(), sampler.access()], allow_nan=False)
    with pytest.raises(IndexError):
        sampler[len(sampler)]
    assert InstanceSampler(InstanceRecipe(crop_vx=(24, 20, 8)), *layers, rows())[7].key == "107"


def test_a_stream_gives_what_single_samples_are(layers: tuple[Layer, Layer]) -> None:
    """Every index once; the same digests and records; the empty row rejected, three times, with one reason."""
    sampler = InstanceSampler(RECIPE, *layers, rows(), seed=3)
    streamed = by_index(sampler.stream(range(len(sampler))))
    assert sorted(streamed) == list(range(len(sampler)))
    for index in (0, 1, 2, 30, 71):
        assert streamed[index].digest() == sampler[index].digest()
        assert streamed[index].record == sampler[index].record
    rejected = [result for result in streamed.values() if isinstance(result, Rejected)]
    assert [result.index for result in rejected] == [15, 16, 17]
    assert {(result.reason, result.record["instance"]["id"]) for result in rejected} == {
        ("there is no mask in the crop", 105)
    }
    assert sum(isinstance(result, Sample) for result in streamed.values()) + len(rejected) == len(sampler)


def test_a_rejected_sample_is_raised_with_its_place(layers: tuple[Layer, Layer]) -> None:
    """Index, key and record of what is not made; twice the same, though the second is remembered."""
    recipe = InstanceRecipe(crop_vx=(12, 12, 4), scenarios=2)
    sampler = InstanceSampler(recipe, *layers, rows())
    for index in (10, 11, 10):
        with pytest.raises(RejectedSample, match="no mask") as caught:
            sampler[index]
        assert (caught.value.index, caught.value.key) == (index, f"105_{index - 10}")
        assert caught.value.record["scenario"] == index - 10
        assert caught.value.record["instance"]["row"] == EMPTY_ROW


def test_samples_depend_on_nothing_but_their_own_row(layers: tuple[Layer, Layer]) -> None:
    """The same in any order, among other rows, and with other scenarios; another with another seed."""
    sampler = InstanceSampler(RECIPE, *layers, rows(), seed=3)
    backwards = by_index(sampler.stream(reversed(range(len(sampler)))))
    alone = InstanceSampler(RECIPE, *layers, [replace(rows()[4], row=7_000)], seed=3)
    more = InstanceSampler(RECIPE.model_copy(update={"scenarios": 5}), *layers, rows(), seed=3)
    for scenario in range(3):
        digest = sampler[12 + scenario].digest()
        assert backwards[12 + scenario].digest() == alone[scenario].digest() == more[20 + scenario].digest() == digest
    other = InstanceSampler(RECIPE, *layers, rows(), seed=4)
    assert any(other[n].digest() != sampler[n].digest() for n in range(9))


def test_scenarios_differ_in_their_seed_alone(layers: tuple[Layer, Layer]) -> None:
    """Image, target and validity are one; over forty scenarios many different slices are kept."""
    sampler = InstanceSampler(RECIPE.model_copy(update={"scenarios": 40}), *layers, [rows()[8]], seed=1)
    samples = [sampler[n] for n in range(40)]
    for name in ("source", "target", "valid"):
        assert len({sample.arrays[name].tobytes() for sample in samples}) == 1
    assert len({tuple(sample.record["kept_slices"]) for sample in samples}) > 5


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("model", ["few", "spread"])
def test_every_kept_slice_has_foreground(layers: tuple[Layer, Layer], axis: Any, model: Any) -> None:
    """Along any axis the seed equals the target on kept slices, is 0 on others, and no kept slice is empty."""
    recipe = InstanceRecipe(crop_vx=(24, 20, 8), scenarios=2, slice_axis=axis, seeds=SeedRecipe(model=model))
    for sample in InstanceSampler(recipe, *layers, rows()).stream(range(0, 30)):
        if isinstance(sample, Sample):
            seed, target = (np.moveaxis(sample.arrays[n], "zyx".index(axis), 0) for n in ("seed", "target"))
            kept = sample.record["kept_slices"]
            assert np.array_equal(seed[kept], target[kept])
            assert target[kept].any(axis=(1, 2)).all()
            assert np.flatnonzero(seed.any(axis=(1, 2))).tolist() == kept


def test_outline_errors_change_the_seed_alone_and_are_recorded(layers: tuple[Layer, Layer]) -> None:
    """Targets stay right; errors are told by slice; slices and other draws stay those of the run without errors."""
    plain = InstanceSampler(RECIPE, *layers, rows())
    clumsy = InstanceSampler(
        RECIPE.model_copy(update={"outline_error": OutlineErrorRecipe(probability=1)}), *layers, rows()
    )
    different = 0
    for index in range(12):
        right, wrong = plain[index], clumsy[index]
        assert np.array_equal(right.arrays["target"], wrong.arrays["target"])
        assert right.record["kept_slices"] == wrong.record["kept_slices"]
        assert [int(n) for n in wrong.record["outline_errors"]] == wrong.record["kept_slices"]
        assert wrong.arrays["seed"].any()
        different += not np.array_equal(right.arrays["seed"], wrong.arrays["seed"])
    assert different > 6


def test_the_record_tells_how_a_sample_was_made(layers: tuple[Layer, Layer]) -> None:
    """Component, its size in both grids, how it was chosen, and where everything lies."""
    sample = InstanceSampler(RECIPE, *layers, rows())[21]
    component = sample.record["component"]
    assert component["id"] == 8
    assert component["by"] == "component"
    assert component["distance_nm"] == 0
    assert component["voxels"] == sample.arrays["target"].sum() == 4 * component["target_voxels"]
    assert sample.record["source"]["dimensions"] == [240, 240, 24]
    assert sample.record["target"]["scale"] == [2, 2, 1]
    assert sample.record["box_nm"][0] == [n * s for n, s in zip(sample.record["box_vx"][0], SOURCE_NM, strict=True)]


def test_samples_cannot_be_spoiled(layers: tuple[Layer, Layer]) -> None:
    """Scenarios share arrays, so that writing into one is refused."""
    sample = InstanceSampler(RECIPE, *layers, rows())[0]
    for array in sample.arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("choice", "reason"),
    [({"min_voxels": 10_000}, "fewer than 10000"), ({"min_slices": 8}, "slices of the sample, fewer than 8")],
)
def test_too_small_an_instance_is_rejected(layers: tuple[Layer, Layer], choice: Any, reason: str) -> None:
    """By voxels or by slices."""
    recipe = InstanceRecipe(crop_vx=(24, 20, 8), choice=ChoiceRecipe(**choice))
    with pytest.raises(RejectedSample, match=reason):
        InstanceSampler(recipe, *layers, rows())[0]


@pytest.mark.parametrize("fewest", [1, 4, 5, 6, 8])
def test_an_instance_on_too_few_slices_for_its_seed_does_not_end_a_stream(
    layers: tuple[Layer, Layer], fewest: int
) -> None:
    """Each such row is rejected with its record, and all others are made; a sample alone says the same."""
    seeds = SeedRecipe(few=FewRecipe(limits=(fewest, 8), mean=fewest, std=8))
    sampler = InstanceSampler(InstanceRecipe(crop_vx=(24, 20, 8), seeds=seeds), *layers, rows())
    outcomes = {outcome.index: outcome for outcome in sampler.stream(range(ROWS))}
    assert len(outcomes) == ROWS
    rejected = {index for index, outcome in outcomes.items() if isinstance(outcome, Rejected)}
    assert rejected >= {EMPTY_ROW}
    assert (len(rejected) == 1) == (fewest == 1)
    for index in set(outcomes) - rejected:
        assert (outcomes[index].arrays["target"].any(axis=(1, 2))).sum() >= fewest
        assert len(outcomes[index].record["kept_slices"]) >= fewest
    for index in rejected - {EMPTY_ROW}:
        assert f"fewer than {fewest}" in outcomes[index].reason
        assert outcomes[index].record["instance"]["id"] == 100 + index
        with pytest.raises(RejectedSample, match=f"fewer than {fewest}"):
            sampler[index]


def test_what_is_read_counts_the_context_too(layers: tuple[Layer, Layer]) -> None:
    """The chunks and bytes foretold are those that making the samples fetches, context included."""
    for context, chunks_read in (((0, 0, 0), 1), ((60, 0, 0), 2), ((0, 60, 0), 2)):
        recipe = InstanceRecipe(crop_vx=(24, 20, 8), choice=ChoiceRecipe(context_vx=context))
        sampler = InstanceSampler(recipe, *layers, rows()[:1])
        frame = sampler.cutter.frame(rows()[0].centre_nm)
        for name, layer, box in (("source", layers[0], frame.source), ("target", layers[1], frame.target)):
            chunks = layer.chunks_of(box)
            size = sum(chunk.voxels for chunk in chunks) * layer.dtype.itemsize
            assert sampler.reads()[name] == {"chunks": len(chunks), "bytes": size}
        assert sampler.reads()["target"]["chunks"] == chunks_read


def test_a_row_far_outside_is_rejected(layers: tuple[Layer, Layer]) -> None:
    """With the layer it misses; a stream tells it too."""
    sampler = InstanceSampler(RECIPE, *layers, [Instance(1, 0, (1e7, 0.0, 0.0))])
    with pytest.raises(RejectedSample, match="wholly outside the source"):
        sampler[0]
    assert [type(result) for result in sampler.stream([2])] == [Rejected]
    assert sampler.look(0).arrays["source"].min() == 148


def test_keeping_more_slices_than_a_sample_has_is_refused_at_once(layers: tuple[Layer, Layer]) -> None:
    """Before anything is read."""
    seeds = SeedRecipe(few=FewRecipe(limits=(9, 9), mean=9))
    with pytest.raises(RecipeError, match="more slices"):
        InstanceSampler(RECIPE.model_copy(update={"seeds": seeds}), *layers, rows())


def test_rows_that_share_an_id_are_refused(layers: tuple[Layer, Layer]) -> None:
    """They would write each other's files."""
    with pytest.raises(InputError, match="share an id"):
        InstanceSampler(RECIPE, *layers, [*rows(), rows()[3]])


def test_a_layer_opened_as_sparse_must_be_declared(files: Path) -> None:
    """Absent chunks are background only if the recipe says so."""
    source = open_layer(files / "source.npy", voxel_size_nm=SOURCE_NM, axes="xyz")
    target = open_layer(files / "target.npy", voxel_size_nm=TARGET_NM, axes="xyz", sparse=True)
    with pytest.raises(RecipeError, match="target_sparse"):
        InstanceSampler(RECIPE, source, target, rows())
    assert len(InstanceSampler(RECIPE.model_copy(update={"target_sparse": True}), source, target, rows())) == 72


def test_a_look_shows_rejected_rows_too(layers: tuple[Layer, Layer]) -> None:
    """Image and all masks around, with nothing chosen."""
    sampler = InstanceSampler(RECIPE, *layers, rows())
    shown = sampler.look(3 * EMPTY_ROW)
    assert {n: (a.shape, str(a.dtype)) for n, a in shown.arrays.items()} == sampler.layout()
    assert not shown.arrays["seed"].any()
    assert np.array_equal(sampler.look(0).arrays["source"], sampler[0].arrays["source"])


def test_another_process_makes_the_same(layers: tuple[Layer, Layer], tmp_path: Path) -> None:
    """From definition and access as JSON, rows inline or in a file."""
    save_rows(tmp_path / "rows.npy", rows_of(rows()))
    for given in (rows(), tmp_path / "rows.npy"):
        sampler = InstanceSampler(RECIPE, *layers, given, seed=3)
        code = (
            "import json, sys\nfrom voxmint.generators import open_remote\n"
            "s = open_remote(json.load(sys.stdin))\n"
            "print(s[4].digest(), s[70].digest(), s.definition()['rows']['count'])\n"
        )
        run = [sys.executable, "-W", "error", "-c", code]
        out = subprocess.run(run, input=json.dumps(remote(sampler)), capture_output=True, text=True, check=True)
        assert out.stdout.split() == [sampler[4].digest(), sampler[70].digest(), str(ROWS)]


def test_rows_in_a_file_stay_what_they_are(tmp_path: Path, layers: tuple[Layer, Layer]) -> None:
    """Missing points and ids come back missing; a changed or damaged file is told."""
    some = [rows()[0], Instance(9, 1, (0.5, 1.25, 3.6), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 7, None, 2**62)]
    path = tmp_path / "rows.npy"
    save_rows(path, rows_of(some))
    assert load_rows(path).instances() == some
    assert rows_fingerprint(load_rows(path)) == rows_fingerprint(rows_of(some))
    sampler = InstanceSampler(RECIPE, *layers, path)
    known = sampler.definition(), sampler.access()
    assert InstanceSampler.open(*known).definition() == known[0]
    save_rows(path, rows_of(some[:1]))
    with pytest.raises(InputError, match=r"rows\.npy: the rows are not those"):
        InstanceSampler.open(*known)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot read the rows"):
        load_rows(path)
    np.save(path, np.zeros(3))
    with pytest.raises(InputError, match="cut, damaged, or not a file of rows"):
        load_rows(path)
    with pytest.raises(InputError, match="cannot read the rows"):
        load_rows(tmp_path / "none.npy")


def test_rows_are_deposited_once(tmp_path: Path, layers: tuple[Layer, Layer]) -> None:
    """Equal rows are kept, others refused and left alone, damaged ones told; afterwards the file is what is used."""
    sampler = InstanceSampler(RECIPE, *layers, rows(), seed=3)
    before, folder = sampler.definition(), tmp_path / "new" / "run"
    sampler.deposit(folder)
    written = (folder / "rows.npy").stat()
    assert sampler.rows_path == folder / "rows.npy"
    assert sampler.definition() == before
    assert sampler[7].digest() == InstanceSampler(RECIPE, *layers, rows(), seed=3)[7].digest()
    InstanceSampler(RECIPE, *layers, rows(), seed=4).deposit(folder)
    other = InstanceSampler(RECIPE, *layers, rows()[1:], seed=3)
    with pytest.raises(PlanError, match=r"rows\.npy: the folder holds other rows"):
        other.deposit(folder)
    after = (folder / "rows.npy").stat()
    assert (written.st_ino, written.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [path.name for path in folder.iterdir()] == ["rows.npy"]
    (folder / "rows.npy").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot read the rows"):
        other.deposit(folder)


class Watched:
    """A layer that counts crops on their way and fails where it is told to."""

    def __init__(self, layer: Layer, broken: Box | None = None) -> None:
        self.layer, self.broken = layer, broken
        self.order: list[Box] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def submit(self, box: Box) -> Future[Cutout]:
        self.order.append(box)
        if self.broken is not None and not box.intersect(self.broken).empty:
            failed: Future[Cutout] = Future()
            error = ChunkError("chunk is forbidden", where=self.layer.url)
            error.box, error.cause = self.broken, "forbidden"
            failed.set_exception(error)
            return failed
        return self.layer.submit(box)


def test_a_broken_chunk_fails_or_rejects_its_own_samples_alone(layers: tuple[Layer, Layer]) -> None:
    """By default those that need it fail and the others are made; a recipe may reject them, with the cause."""
    broken = Watched(layers[0], Box((0, 0, 0), (30, 40, 24)))
    sampler = InstanceSampler(RECIPE, broken, layers[1], rows())
    results = by_index(sampler.stream(range(len(sampler))))
    failed = [index for index, result in results.items() if isinstance(result, Failed)]
    assert sorted(failed) == [0, 1, 2]
    assert isinstance(results[0].cause, ChunkError)
    assert len(results) == len(sampler)
    with pytest.raises(ChunkError):
        sampler[0]
    lenient = InstanceSampler(RECIPE.model_copy(update={"on_chunk_error": "reject"}), broken, layers[1], rows())
    with pytest.raises(RejectedSample, match=r"(?s)could not be read.*forbidden"):
        lenient[0]
    assert lenient[30].digest() == sampler[30].digest()


def test_a_stream_reads_ahead_within_bounds_and_in_order_of_place(layers: tuple[Layer, Layer]) -> None:
    """Before the first sample is taken, many crops are on their way, but no more than stated; neighbours follow."""
    watched = Watched(layers[0])
    many = [
        Instance(n, n, (8.0 * (20 + 7 * (n * 37 % 13)), 8.0 * (20 + 6 * (n * 53 % 14)), 33.0 * (n % 20)))
        for n in range(120)
    ]
    recipe = InstanceRecipe(crop_vx=(12, 12, 4), choice=ChoiceRecipe(by="nearest", max_distance_nm=1e4))
    stream = InstanceSampler(recipe, watched, layers[1], many).stream(range(120))
    next(stream)
    assert 32 <= len(watched.order) <= AHEAD
    assert len(list(stream)) == 119
    assert len(watched.order) == 120


@pytest.mark.parametrize(
    ("crop", "context", "least", "most"),
    [((8, 8, 4), 0, 32, AHEAD), ((8, 8, 4), 80, 3, 20), ((600, 600, 200), 0, 2, 2)],
)
def test_what_is_read_ahead_is_bounded_by_the_bytes_of_its_chunks(
    crop: tuple[int, int, int], context: int, least: int, most: int
) -> None:
    """Many small crops, few large ones: the chunks of all of them together stay below the bound, if two do."""
    arrays = [np.broadcast_to(np.zeros((), dtype), (2048, 2048, 512)) for dtype in (np.uint8, np.uint32)]
    layers = [open_layer(array, voxel_size_nm=(8, 8, 33)) for array in arrays]
    recipe = InstanceRecipe(crop_vx=crop, choice=ChoiceRecipe(context_vx=(context, context, 0)))
    sampler = InstanceSampler(recipe, layers[0], layers[1], rows())
    ahead = rows_ahead(sampler._extractor)
    assert least <= ahead <= most
    frames = [sampler.cutter.frame((8.0 * n, 8.0 * (n + 5), 33.0 * n)) for n in range(200, 300, 7)]
    held = [
        sum(chunk.voxels for chunk in layer.chunks_of(box)) * layer.dtype.itemsize
        for frame in frames
        for layer, box in zip(layers, (frame.source, frame.target), strict=True)
    ]
    assert ahead == 2 or ahead * max(map(sum, zip(held[::2], held[1::2], strict=True))) <= AHEAD_BYTES


def test_each_chunk_is_fetched_once_by_a_stream(files: Path) -> None:
    """With a cache far smaller than the volume but larger than a crop, neighbours share what was fetched."""
    opened = [
        open_layer(files / f"{name}.npy", voxel_size_nm=size, axes="xyz")
        for name, size in (("source", SOURCE_NM), ("target", TARGET_NM))
    ]
    sampler = InstanceSampler(RECIPE, opened[0], opened[1], rows())
    assert len(list(sampler.stream(range(len(sampler))))) == len(sampler)
    for layer, name in zip(opened, ("source", "target"), strict=True):
        needed = set()
        for n in range(ROWS):
            needed.update(layer.chunks_of(getattr(sampler.cutter.frame(rows()[n].centre_nm), name)))
        assert layer.fetched == len(needed)  # type: ignore[attr-defined]
        nbytes = sum(chunk.voxels for chunk in needed) * layer.dtype.itemsize
        assert sampler.reads()[name] == {"chunks": len(needed), "bytes": nbytes}


def test_places_follow_the_chunks(layers: tuple[Layer, Layer]) -> None:
    """All points of one chunk come together, whatever order they were given in."""
    random = np.random.Generator(np.random.Philox(2))
    points = random.uniform(0, 900, (300, 3))
    chunk = np.array(layers[0].chunk_shape) * np.array(layers[0].voxel_size_nm)
    chunks = [tuple(c) for c in (points[by_place(points, layers[0])] // chunk).tolist()]
    changes = sum(a != b for a, b in pairwise(chunks))
    assert changes == len(set(chunks)) - 1
    assert len(set(chunks)) > 4


def test_crops_read_ahead_are_freed_when_they_were_taken(files: Path) -> None:
    """Without waiting for garbage collection: nothing that holds chunks holds itself."""
    opened = [
        open_layer(files / f"{name}.npy", voxel_size_nm=size, axes="xyz")
        for name, size in (("source", SOURCE_NM), ("target", TARGET_NM))
    ]
    sampler = InstanceSampler(RECIPE, opened[0], opened[1], rows())
    gc.collect()
    gc.disable()
    try:
        assert len(list(sampler.stream(range(len(sampler))))) == len(sampler)
        assert not [thing for thing in gc.get_objects() if type(thing) is Pieces]
    finally:
        gc.enable()
