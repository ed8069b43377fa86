"""What each sample was read from: chunks of both layers by name, with their digests; of rejected rows, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from voxmint.errors import RejectedSample
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.table import Instance
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_identity, open_layer

SIZE = (8, 8, 33)
RECIPE = InstanceRecipe(crop_vx=(24, 20, 8), scenarios=2)
PLACES = ((20, 20, 10), (70, 60, 16), (30, 70, 20), (5000, 5, 5), (75, 15, 4))
EMPTY, OUTSIDE = 2, 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = np.random.Generator(np.random.Philox(1))
    target = np.zeros((96, 96, 24), np.uint32)
    for number, (x, y, z) in enumerate(PLACES):
        if number not in (EMPTY, OUTSIDE):
            target[x - 4 : x + 4, y - 4 : y + 4, z - 3 : z + 3] = number + 1
    with h5py.File(tmp_path / "both.h5", "w") as both:
        both.create_dataset("image", data=random.integers(0, 256, (24, 96, 96), dtype=np.uint8), chunks=(8, 32, 32))
        both.create_dataset("labels", data=target.T, chunks=(12, 32, 32))
    return tmp_path / "both.h5"


def opened(file: Path) -> tuple[Layer, Layer]:
    image, target = (open_layer(file, dataset=name, voxel_size_nm=SIZE) for name in ("image", "labels"))
    return image, target


@pytest.fixture
def sampler(file: Path) -> Iterator[InstanceSampler]:
    layers = opened(file)
    rows = [Instance(n, n, tuple(float(c * s) for c, s in zip(p, SIZE, strict=True))) for n, p in enumerate(PLACES)]
    yield InstanceSampler(RECIPE, *layers, rows)
    for layer in layers:
        layer.close()


def reads_of(sampler: InstanceSampler) -> dict[int, Any]:
    return {found.index: found.reads for found in sampler.stream(range(len(sampler)))}  # type: ignore[union-attr]


def test_a_sample_names_the_chunks_of_both_layers(sampler: InstanceSampler) -> None:
    """Exactly those that its crop touches, alone and in a stream, the same for all scenarios."""
    streamed = reads_of(sampler)
    for number in (0, 1, 4):
        frame = sampler.cutter.frame(sampler.row(number).centre_nm)
        expected = {f"source {chunk.name}" for chunk in sampler.source.chunks_of(frame.source)}
        expected |= {f"target {chunk.name}" for chunk in sampler.target.chunks_of(frame.target)}
        sample = sampler[2 * number]
        assert sample.reads.keys() == expected
        assert sample.reads == streamed[2 * number] == streamed[2 * number + 1] == sampler.look(2 * number).reads


def test_a_rejected_row_names_what_decided_that(sampler: InstanceSampler) -> None:
    """The target's chunks where there is no instance, whatever of the source was on its way; none outside both."""
    frame = sampler.cutter.frame(sampler.row(EMPTY).centre_nm)
    with pytest.raises(RejectedSample) as caught:
        sampler[2 * EMPTY]
    assert caught.value.reads.keys() == {f"target {chunk.name}" for chunk in sampler.target.chunks_of(frame.target)}
    streamed = reads_of(sampler)
    assert streamed[2 * EMPTY] == streamed[2 * EMPTY + 1] == caught.value.reads
    assert streamed[2 * OUTSIDE] == {}


def test_a_changed_voxel_changes_the_digests_of_its_chunk_alone(file: Path, sampler: InstanceSampler) -> None:
    """In all samples that were made from it, and in no other."""
    before = reads_of(sampler)
    sampler.source.close()
    sampler.target.close()
    with h5py.File(file, "r+") as both:
        both["image"][10, 20, 20] ^= 1
    changed = InstanceSampler(RECIPE, *opened(file), sampler.rows)
    after = reads_of(changed)
    differing = {
        index: {name for name in before[index] if before[index][name] != after[index][name]} for index in after
    }
    touched = {index: {"source 0-32_0-32_8-16"} if 0 <= index < 2 else set() for index in after}
    assert differing == touched


def test_the_definition_is_enough_to_open_both_layers_again(sampler: InstanceSampler) -> None:
    """Two data sets of one file: the samples are the same."""
    definition = json.loads(json.dumps(sampler.definition()))
    source, target = (open_identity(definition[name]) for name in ("source", "target"))
    again = InstanceSampler(InstanceRecipe.from_dict(definition["recipe"]), source, target, sampler.rows)
    assert again.definition() == sampler.definition()
    assert again[0].digest() == sampler[0].digest()
    assert again[0].reads == sampler[0].reads
