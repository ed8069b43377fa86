"""Instances of a real micrograph: the same bytes from everywhere, after any kill, with few requests."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chance import chance
from voxmint.cli import main
from voxmint.instances.draw.sampling import SamplingRecipe
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.sampler import InstanceSampler
from voxmint.instances.table.columns import ColumnMap
from voxmint.make.instances import Inputs, Job, prepare_instances
from voxmint.sample import Sample
from voxmint.stores.place import Place

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import FaultyServer, both_clouds, http_server

for package in ("tensorstore", "cloudvolume", "gcsfs", "s3fs"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")

pytestmark = pytest.mark.stress
SHARED = Path(__file__).resolve().parents[2] / "shared"
ROWS, SCENARIOS = 400, 4
CROP = (48, 48, 16)
VOXEL = (20.0, 20.0, 10.0)
FLAGS = ["--table-voxel-size", "20,20,10", "--crop", "48,48,16", "--scenarios", str(SCENARIOS)]
DELAY_S = 0.05


@pytest.fixture(scope="module")
def connectome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers and a table of 400 clefts, cut from a real micrograph."""
    tool = SHARED / "tools/make_connectome.py"
    if not tool.exists() or not (SHARED / "data/flyem-medulla").exists():
        pytest.skip(f"needs {tool} and its data")
    folder = tmp_path_factory.mktemp("connectome")
    subprocess.run([sys.executable, str(tool), str(folder), "--instances", str(ROWS)], check=True)
    return folder


@pytest.fixture(scope="module")
def plain(connectome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same layers with uncompressed chunks, under the names that servers are asked for."""
    folder = tmp_path_factory.mktemp("plain")
    for path in sorted(connectome.rglob("*")):
        if path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            copy = folder / str(path.relative_to(connectome)).removesuffix(".gz")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def server(plain: Path) -> Iterator[FaultyServer]:
    with http_server(plain) as running:
        yield running


@pytest.fixture(scope="module")
def clouds(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both emulators with the layers in them, and an environment in which all clients speak to them."""
    logs = tmp_path_factory.mktemp("clouds")
    with both_clouds(logs):
        for place in ("gs://bucket/em", "s3://bucket/em"):
            store = Place(place)
            for path in sorted(plain.rglob("*")):
                if path.is_file():
                    store.write(path.relative_to(plain).as_posix(), path.read_bytes())
        yield


def command(layers: str | Path, table: Path, out: str | Path, *more: str, rows: int = ROWS) -> list[str]:
    places = ["--source", f"{layers}/source", "--target", f"{layers}/target", "--table", str(table)]
    places += ["--count", str(rows)]
    return [sys.executable, "-m", "voxmint", "instances", "make", *places, *FLAGS, "--out", str(out), *more]


def run(layers: str | Path, table: Path, out: str | Path, *more: str) -> float:
    started = time.monotonic()
    subprocess.run(command(layers, table, out, *more), check=True)
    return time.monotonic() - started


def table_of(connectome: Path) -> Path:
    return connectome / "materialization.csv"


def digests(folder: Path) -> dict[int, str]:
    lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return {line["index"]: line["digest"] for line in lines}


def rejections(folder: Path) -> dict[int, str]:
    with (folder / "rejected.csv").open(newline="") as lines:
        return {int(row["index"]): row["reason"] for row in csv.DictReader(lines)}


def hashes(folder: Path) -> dict[str, str]:
    """Hash everything that has a final name, pictures included."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".voxmint" not in path.parts and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def whole(connectome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker makes of local files through TensorStore."""
    out = tmp_path_factory.mktemp("whole") / "npy"
    seconds = run(connectome, table_of(connectome), out, "--workers", "1", "--reader", "tensorstore")
    print(f"\n{ROWS} x {SCENARIOS}, local, 1 worker: {seconds:.1f} s")
    return out


def test_every_sample_is_made_or_rejected(whole: Path) -> None:
    """400 rows x 4 scenarios: each is in the records or, with its reason, in the list of rejected ones; all verify."""
    made, rejected = digests(whole), rejections(whole)
    print(f"\nmade {len(made)}, rejected {len(rejected)}: {sorted(set(rejected.values()))}")
    assert sorted([*made, *rejected]) == list(range(ROWS * SCENARIOS))
    assert len(made) > 0.9 * ROWS * SCENARIOS
    assert main(["verify", str(whole)]) == 0


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
@pytest.mark.parametrize(("place", "workers"), [("file", 2), ("http", 1), ("gs", 2), ("s3", 1)])
def test_digests_are_the_same_from_everywhere(
    connectome, server, clouds, whole, tmp_path, place, reader, workers
) -> None:
    """Each reader, from files, HTTP, GCS and S3, into HDF5, makes the samples of the first run."""
    layers = {"file": str(connectome), "http": server.url, "gs": "gs://bucket/em", "s3": "s3://bucket/em"}[place]
    more = ["--workers", str(workers), "--reader", reader, "--format", "hdf5"]
    seconds = run(layers, table_of(connectome), tmp_path / "out", *more)
    print(f"\n{place}, {reader}, {workers} workers: {seconds:.1f} s")
    assert digests(tmp_path / "out") == digests(whole)
    assert rejections(tmp_path / "out") == rejections(whole)
    shutil.rmtree(tmp_path / "out")


def job_of(layers: str | Path, table: Path, seed: int = 0) -> Job:
    inputs = Inputs(f"{layers}/source", f"{layers}/target", table, ColumnMap(voxel_size_nm=VOXEL))
    recipe = InstanceRecipe(crop_vx=CROP, scenarios=SCENARIOS)
    return prepare_instances(inputs, recipe, SamplingRecipe(count=ROWS), seed=seed)


def test_any_order_makes_the_same_samples(connectome, whole) -> None:
    """A shuffled stream, and single samples backwards, are those of the run."""
    sampler, made = job_of(connectome, table_of(connectome)).sampler(""), digests(whole)
    indices = list(range(len(sampler)))
    random.Random(1).shuffle(indices)
    streamed = {o.index: o.digest() for o in sampler.stream(indices) if isinstance(o, Sample)}
    assert streamed == made
    for index in sorted(made, reverse=True)[::37]:
        assert sampler[index].digest() == made[index]


class Watcher(threading.Thread):
    """Hashes every file under a final name, again and again: it must never be anything but whole."""

    def __init__(self, folder: Path, expected: dict[str, str], rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.folder, self.expected, self.rng = folder, expected, rng
        self.wrong: set[str] = set()
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for name in self.rng.sample(list(self.expected), min(60, len(self.expected))):
                try:
                    data = (self.folder / name).read_bytes()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                self.seen.add(name)
                if hashlib.sha256(data).hexdigest() != self.expected[name]:
                    self.wrong.add(name)


@pytest.mark.parametrize("format", ["npy", "hdf5"])
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_kills_end_in_the_same_bytes(connectome, tmp_path, format, victim) -> None:
    """After six kills at random moments the same command ends in the files of a run that nobody disturbed."""
    check_kills(connectome, table_of(connectome), tmp_path, format, victim)


@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_kills_while_chunks_are_shared_end_in_the_same_bytes(connectome, slow, tmp_path, victim) -> None:
    """So it does over a network, where processes leave chunks for each other; what they left goes with the last."""
    check_kills(slow.url, table_of(connectome), tmp_path, "npy", victim)
    assert (tmp_path / "cut/.voxmint").is_dir()
    assert not list((tmp_path / "cut/.voxmint").glob("chunks-*"))


def check_kills(layers: str | Path, table: Path, tmp_path: Path, format: str, victim: str) -> None:
    rng = chance()
    more = ["--workers", "2", "--format", format]
    out, landed = tmp_path / "cut", 0
    seconds = run(layers, table, tmp_path / "whole", *more)
    expected = hashes(tmp_path / "whole")
    watcher = Watcher(out, expected, random.Random(rng.random()))
    watcher.start()
    for _ in range(30):
        if landed == 6 or (out / "manifest.jsonl").exists():
            break
        process = subprocess.Popen(command(layers, table, out, *more), stderr=subprocess.DEVNULL)
        while process.poll() is None and landed < 6:
            time.sleep(rng.uniform(0.5, seconds / 2 if victim == "parent" else seconds / 6))
            workers = psutil.Process(process.pid).children() if process.poll() is None else []
            victims = workers if victim == "worker" else [process]
            if victims and process.poll() is None:
                rng.choice(victims).kill()
                landed += 1
        process.wait(timeout=300)
    run(layers, table, out, *more)
    watcher.over.set()
    watcher.join()
    print(f"\n{victim}, {format}: {landed} kills, {seconds:.1f} s undisturbed")
    assert landed >= 2
    assert watcher.seen
    assert not watcher.wrong
    assert hashes(out) == expected
    assert main(["verify", str(out)]) == 0


def chunks_asked(server: FaultyServer) -> int:
    return sum(count for path, count in server.requests.items() if not path.endswith(("info", "provenance")))


@pytest.fixture
def slow(server: FaultyServer) -> Iterator[FaultyServer]:
    """The server with 50 ms added to each answer."""
    server.delay_s = DELAY_S
    yield server
    server.delay_s = 0.0


def needed_by(sampler: InstanceSampler) -> int:
    return sum(layer["chunks"] for layer in sampler.reads().values())


def test_each_chunk_is_asked_for_once_and_many_at_a_time(connectome, slow, whole) -> None:
    """50 ms away, requests are the chunks touched, 32 or more on their way, and the time beats a plain loop."""
    cloudvolume = pytest.importorskip("cloudvolume")
    job = job_of(slow.url, table_of(connectome))
    job = Job(job.recipe, *reopened(job), job.rows, job.report, job.seed)  # nothing is cached
    sampler = job.sampler("")
    needed = needed_by(sampler)
    slow.forget()
    started = time.monotonic()
    made = {o.index: o.digest() for o in sampler.stream(range(len(sampler))) if isinstance(o, Sample)}
    ours, asked, flying = time.monotonic() - started, chunks_asked(slow), slow.most_in_flight
    assert made == digests(whole)
    slow.forget()
    volumes = {
        name: cloudvolume.CloudVolume(f"precomputed://{slow.url}/{name}", progress=False, bounded=True)
        for name in ("source", "target")
    }
    rows = 100
    started = time.monotonic()
    for row in job.rows[""].take(slice(rows)).instances():
        frame = sampler.cutter.frame(row.centre_nm)
        for name, box in (("source", frame.source), ("target", frame.target)):
            volumes[name][box.slices()]
    loop = time.monotonic() - started
    print(
        f"\n{needed} chunks touched, {asked} requests, {flying} in flight, {ours:.1f} s for {ROWS} rows x {SCENARIOS}"
        f"\nplain loop of CloudVolume, no seeds, no mask: {loop:.1f} s for {rows} rows, {chunks_asked(slow)} requests;"
        f" {loop * ROWS / rows / ours:.1f} times as long"
    )
    assert needed <= asked <= 1.05 * needed
    assert flying >= 32
    assert ours < loop * ROWS / rows


def reopened(job: Job):
    from voxmint.volumes.opening import layer_from_spec

    return tuple(layer_from_spec(layer.spec(), layer.identity()) for layer in (job.source, job.target))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_few_chunks(connectome, slow, whole, tmp_path, workers) -> None:
    """A whole command, its checks and pictures included, asks for each chunk once, however many processes it has."""
    needed = needed_by(job_of(slow.url, table_of(connectome)).sampler(""))
    slow.forget()
    seconds = run(slow.url, table_of(connectome), tmp_path / "out", "--workers", str(workers))
    asked = chunks_asked(slow)
    print(
        f"\n{workers} workers: {needed} chunks touched, {asked} requests with those for checks, "
        f"{slow.most_in_flight} in flight, {seconds:.1f} s"
    )
    assert digests(tmp_path / "out") == digests(whole)
    assert needed <= asked <= 1.05 * needed
    assert slow.most_in_flight >= 32
    assert [path.name for path in (tmp_path / "out/.voxmint").iterdir()] == ["lock"]


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_run_into_a_bucket(connectome, clouds, whole, tmp_path, monkeypatch, scheme) -> None:
    """The tree in a bucket holds the bytes of the tree in a folder, which has more rows of the same draw."""
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "state"))
    place, rows = f"{scheme}://bucket/{tmp_path.name}", 60
    started = time.monotonic()
    subprocess.run(command(connectome, table_of(connectome), place, rows=rows), check=True, cwd=tmp_path)
    print(f"\n{rows} x {SCENARIOS} into {scheme}: {time.monotonic() - started:.1f} s")
    store, files = Place(place), hashes(whole)
    names = [name for name in store.list() if name.endswith(".npy") and "/" in name]
    assert len(names) == rows * (3 + SCENARIOS)
    for name in names[::7]:
        digest = hashlib.sha256(store.read(name)).hexdigest()
        assert digest == files[name]
