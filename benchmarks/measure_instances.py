"""Measurements of instances: this library beside the plain way, from local layers and over a slow network."""

from __future__ import annotations

import gc
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

    from voxmint.instances.draw.sampling import SamplingRecipe
    from voxmint.instances.recipe import InstanceRecipe
    from voxmint.instances.table.columns import ColumnMap
    from voxmint.make.instances import Inputs, prepare_instances
    from voxmint.volumes.opening import open_layer

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
    gc.collect()  # what importing left behind is no part of an instance; `timeit` switches collection off
    before = time.process_time()
    made = sum(isinstance(outcome, Sample) for outcome in sampler.stream(range(len(sampler))))
    return {"cpu": (time.process_time() - before) / len(sampler), "instances": len(sampler), "made": made}


def plain_instances(folder: str, count: int) -> dict[str, object]:
    """Return CPU seconds an instance of the plain reference, which tests compare with our samples."""
    from reference.instances import open_plain, plain_instance, plain_seed

    job = _job(folder, count)
    layers = open_plain(Path(folder))
    random = np.random.Generator(np.random.Philox(0))
    gc.collect()
    before = time.process_time()
    for instance in job.rows[""].instances():
        made = plain_instance(*layers, instance.centre_nm, CROP, job.recipe.choice.max_distance_nm)
        if made is not None:
            plain_seed(made.target, random)
    return {"cpu": (time.process_time() - before) / len(job.rows[""])}


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

    ``requests`` are those of the stream alone: what preparing a job looked up is kept, and not asked for again.
    Together they are the distinct chunks. The server runs in a process of its own.
    """
    from slow_server import slow_server

    with tempfile.TemporaryDirectory() as plain, slow_server(unpacked(Path(folder), Path(plain)), delay) as server:
        job = _job(folder, count, server.url)
        sampler = job.sampler("")
        chunks = job.demand()["chunks"]
        before = server.counts()
        gc.collect()
        start, cpu = time.perf_counter(), time.process_time()
        for _ in sampler.stream(range(len(sampler))):
            pass
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        counts = server.counts()
        return {
            "seconds": seconds,
            "cpu": cpu,
            "chunks": chunks,
            "chunks_before": before["requests"],
            "requests": counts["requests"],
            "in_flight": counts["most_in_flight"],
        }
