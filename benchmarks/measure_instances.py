"""Measurements of instances: this library beside the plain way, from local layers and over a slow network."""

from __future__ import annotations

import gzip
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CROP = (128, 128, 16)
"""Target voxels, as published."""


def _job(folder: str, count: int, address: str = "") -> Any:
    import csv

    from voxmint.instances.columns import ColumnMap
    from voxmint.instances.recipe import InstanceRecipe
    from voxmint.instances.sampling import SamplingRecipe
    from voxmint.make.instances import Inputs, prepare_instances
    from voxmint.volumes.layer import open_layer

    place = address or folder
    size = open_layer(f"{place}/target").voxel_size_nm
    table = Path(folder) / "materialization.csv"
    with table.open() as lines:
        rows = sum(1 for _ in csv.reader(lines)) - 1
    inputs = Inputs(f"{place}/source", f"{place}/target", table, ColumnMap(voxel_size_nm=size))
    return prepare_instances(inputs, InstanceRecipe(crop_vx=CROP), SamplingRecipe(count=min(count, rows)))


def our_instances(folder: str, count: int) -> dict[str, object]:
    """Return CPU seconds an instance, cut, chosen and seeded, from layers opened anew."""
    from voxmint.sample import Sample

    job = _job(folder, count)
    sampler = job.sampler("")
    before = time.process_time()
    made = sum(isinstance(outcome, Sample) for outcome in sampler.stream(range(len(sampler))))
    return {"cpu": (time.process_time() - before) / len(sampler), "instances": len(sampler), "made": made}


def plain_instances(folder: str, count: int) -> dict[str, object]:
    """Return CPU seconds an instance of a plain loop: CloudVolume, repetition, components, the nearest kept."""
    from cloudvolume import CloudVolume
    from scipy import ndimage

    job = _job(folder, count)
    layers = [CloudVolume(f"file://{folder}/{name}", progress=False) for name in ("source", "target")]
    sizes = [np.array(layer.resolution, float) for layer in layers]
    ratio = (sizes[1] / sizes[0]).round().astype(int)
    before = time.process_time()
    for instance in job.instances[""]:
        centre = np.array(instance.centre_nm)
        cuts, starts = [], []
        for layer, size, shape in zip(layers, sizes, (np.array(CROP) * ratio, np.array(CROP)), strict=True):
            start = np.floor(centre / size).astype(int) - shape // 2
            bounds = layer.bounds
            low, high = np.maximum(start, bounds.minpt), np.minimum(start + shape, bounds.maxpt)
            cut = layer[low[0] : high[0], low[1] : high[1], low[2] : high[2]][..., 0]
            padding = [(a, b) for a, b in zip(low - start, start + shape - high, strict=True)]
            cuts.append(np.pad(cut, padding, constant_values=148 if not cuts else 0))
            starts.append(start)
        labels, found = ndimage.label(cuts[1] > 0, np.ones((3, 3, 3)))
        if found:
            at = centre / sizes[1] - starts[1]
            distances = [(((np.argwhere(labels == n) - at) * sizes[1]) ** 2).sum(1).min() for n in range(1, found + 1)]
            mask = labels == 1 + int(np.argmin(distances))
            target = np.asarray(mask, np.uint8)
            for axis, times in enumerate(ratio):
                target = np.repeat(target, times, axis)
            seed = np.zeros_like(target)
            seed[..., CROP[2] // 2] = target[..., CROP[2] // 2]
    return {"cpu": (time.process_time() - before) / len(job.instances[""])}


def unpacked(folder: Path, plain: Path) -> Path:
    """Copy layers without compression of whole files, which a plain file server cannot announce."""
    for path in folder.rglob("*"):
        if path.is_file():
            target = plain / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            if path.suffix == ".gz":
                target, data = target.with_suffix(""), gzip.decompress(data)
            target.write_bytes(data)
    return plain


def slow_instances(folder: str, count: int, delay: float = 0.05) -> dict[str, object]:
    """Return seconds to make instances over HTTP with a delay added to each request, and what was asked for.

    ``requests`` are those of the stream alone: what preparing a job looks up is kept, and not asked for again.
    """
    from slow_server import slow_server

    with tempfile.TemporaryDirectory() as plain, slow_server(unpacked(Path(folder), Path(plain)), delay) as server:
        job = _job(folder, count, server.url)
        sampler = job.sampler("")
        chunks = job.demand()["chunks"]
        before = server.counts()
        start, cpu = time.perf_counter(), time.process_time()
        for _ in sampler.stream(range(len(sampler))):
            pass
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        counts = server.counts()
        metadata = 2  # an info file a layer
        return {
            "seconds": seconds,
            "cpu": cpu,
            "chunks": chunks,
            "chunks_before": before["requests"] - metadata,
            "requests": counts["requests"],
            "in_flight": counts["most_in_flight"],
        }
