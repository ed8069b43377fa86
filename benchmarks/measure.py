"""One measurement a call, printed as JSON, in a process of its own, whose peak memory and start-up are then its own."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))


def timed(function: Callable[[], object], repeats: int = 1) -> list[float]:
    """Return wall seconds of each call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_mb() -> float:
    """Return the largest resident set of this process so far, MB, less pages mapped from files."""
    pages = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "RssFile", "VmRSS"):
            pages[name] = int(value.split()[0]) / 1024
    return pages["VmHWM"] - pages["RssFile"]


def ours(bank_path: str, side: int, count: int) -> dict[str, object]:
    """Time ensembles and view pairs of this library, sample by sample, in seconds of the processor."""
    from voxmint.pairs import draws
    from voxmint.pairs.engines.cpu import ensemble
    from voxmint.pairs.engines.cpu.compiled import ensure_compiled
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.pairs.sampler import make_views
    from voxmint.randomness import Stream
    from voxmint.templates.bank import TemplateBank

    ensure_compiled()
    recipe, bank = PairRecipe(side=side), TemplateBank.open(bank_path)
    before = peak_mb()
    labels, ensembles, views = None, [], []
    for repeat in range(2):  # the first round warms caches and memory
        for index in range(count):
            parameters = draws.draw_ensemble(Stream(0, index, "ensemble"), recipe, len(bank))
            start = time.process_time()
            labels = ensemble.make_ensemble(bank, parameters, recipe.volume)
            middle = time.process_time()
            make_views(labels, recipe.view, 0, f"bench{index}")
            if repeat:
                ensembles.append(middle - start)
                views.append(time.process_time() - middle)
    return {"ensemble": ensembles, "views": views, "peak_mb": peak_mb(), "before_mb": before}


def plain_ensemble(paths: list[Path], parameters: dict[str, Any], side: int) -> np.ndarray:
    """Make an ensemble by the plain reference, decoding whole mask files as the published scripts do."""
    from reference.cost import decode
    from reference.ensemble import ensemble_reference
    from reference.random_pairs import noise_of

    masks = {drawn["template"]: decode(paths[drawn["template"]]) for drawn in parameters["templates"]}
    return ensemble_reference(masks, parameters, (side, side, side), noise_of)["labels"]


def reference(bank_path: str, tree: str, side: int, count: int) -> dict[str, object]:
    """Time the plain reference on the same parameters, decoding whole masks as the published scripts do."""
    import torch

    from inputs import mask_paths
    from reference.random_pairs import noise_of
    from reference.view import view_reference
    from voxmint.pairs import draws
    from voxmint.pairs.engines.cpu.appearance import labels_present
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.randomness import Stream
    from voxmint.templates.bank import TemplateBank

    torch.set_num_threads(1)
    recipe, bank = PairRecipe(side=side), TemplateBank.open(bank_path)
    paths = mask_paths(Path(tree), bank)
    before = peak_mb()
    ensembles, views = [], []
    for index in range(count):
        parameters = draws.draw_ensemble(Stream(0, index, "ensemble"), recipe, len(bank))
        start = time.process_time()
        labels = plain_ensemble(paths, parameters, side)
        middle = time.process_time()
        for name in ("view1", "view2"):
            drawn = draws.draw_view(Stream(0, f"bench{index}", name), recipe.view, labels_present(labels), labels.shape)
            view_reference(labels, drawn, noise_of, recipe.view.texture_strength)
        ensembles.append(middle - start)
        views.append(time.process_time() - middle)
    return {"ensemble": ensembles, "views": views, "peak_mb": peak_mb(), "before_mb": before}


def reference_run(bank_path: str, tree: str, side: int, count: int, work: str) -> dict[str, object]:
    """Time the reference from process start to HDF5 (gzip, as published), with two workers that share the samples."""
    import subprocess

    import h5py

    def one(worker: int) -> subprocess.Popen[bytes]:
        job = ["reference_part", bank_path, tree, side, list(range(worker, count, 2)), work]
        return subprocess.Popen([sys.executable, __file__, json.dumps(job)], stdout=subprocess.DEVNULL)

    def run() -> None:
        for process in [one(worker) for worker in range(2)]:
            if process.wait():
                raise RuntimeError("a worker of the reference failed")
        with h5py.File(Path(work) / "reference.hdf5", "w") as file:
            for index in range(count):
                with np.load(Path(work) / f"reference{index}.npz") as arrays:
                    for name in ("img", "seg"):
                        file.create_dataset(f"{index:06d}/{name}", data=arrays[name], compression="gzip")

    return {"seconds": timed(run)}


def reference_part(bank_path: str, tree: str, side: int, indices: list[int], work: str) -> dict[str, object]:
    """Make some pairs the plain way and put them into files."""
    for index in indices:
        arrays = _reference_pair(bank_path, tree, side, index)
        np.savez_compressed(Path(work) / f"reference{index}.npz", **arrays)
    return {}


def _reference_pair(bank_path: str, tree: str, side: int, index: int) -> dict[str, np.ndarray]:
    import torch

    from inputs import mask_paths
    from reference.random_pairs import noise_of
    from reference.view import view_reference
    from voxmint.pairs import draws
    from voxmint.pairs.engines.cpu.appearance import labels_present
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.randomness import Stream
    from voxmint.templates.bank import TemplateBank

    torch.set_num_threads(1)
    recipe, bank = PairRecipe(side=side), TemplateBank.open(bank_path)
    parameters = draws.draw_ensemble(Stream(0, index, "ensemble"), recipe, len(bank))
    labels = plain_ensemble(mask_paths(Path(tree), bank), parameters, side)
    views = []
    for name in ("view1", "view2"):
        drawn = draws.draw_view(Stream(0, f"bench{index}", name), recipe.view, labels_present(labels), labels.shape)
        views.append(view_reference(labels, drawn, noise_of, recipe.view.texture_strength)["view"])
    return {"img": np.stack(views), "seg": labels}


def floor(side: int) -> dict[str, object]:
    """Time what no pair can do without: normals of two views, one real transform and its inverse, one pass."""
    from scipy import fft

    rng, shape = np.random.default_rng(0), (side, side, side)
    normals, image = np.empty((2, *shape), np.float32), np.ones(shape, np.float32)
    grey = np.empty((2, *shape), np.uint8)
    parts = {
        "normals": min(timed(lambda: rng.standard_normal(out=normals, dtype=np.float32), 5)),
        "transforms": min(timed(lambda: fft.irfftn(fft.rfftn(image), s=shape), 5)),
        "pass": min(timed(lambda: np.multiply(normals, 3, out=grey, casting="unsafe"), 5)),
    }
    return {**parts, "seconds": sum(parts.values())}


def profile(bank_path: str, side: int, count: int) -> dict[str, object]:
    """Return the milliseconds of a pair that each function takes by itself."""
    import cProfile
    import pstats

    from voxmint.pairs.engines.cpu.compiled import ensure_compiled
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.pairs.sampler import PairSampler
    from voxmint.templates.bank import TemplateBank

    ensure_compiled()
    sampler = PairSampler(PairRecipe(side=side), TemplateBank.open(bank_path), seed=0)
    for index in range(count):  # warms caches and memory
        sampler[index]
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    for index in range(count):
        sampler[index]
    profiler.disable()
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    spent = {f"{Path(file).stem}.{name}": 1e3 * own / count for (file, _, name), (_, _, own, _, _) in stats.items()}
    total = sum(spent.values())
    return {"lines": dict(sorted(spent.items(), key=lambda item: -item[1])[:16]), "total": total}


def compression(bank_path: str, side: int, count: int, work: str) -> dict[str, object]:
    """Return for each filter of HDF5, views and labels apart: bytes over plain bytes, and ms to write and to read one.

    Filters that HDF5 brings with it; zstd too if ``hdf5plugin`` is installed, which readers would then need as well.
    """
    import h5py

    from voxmint.pairs.engines.cpu.compiled import ensure_compiled
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.pairs.sampler import PairSampler
    from voxmint.templates.bank import TemplateBank

    ensure_compiled()
    sampler = PairSampler(PairRecipe(side=side), TemplateBank.open(bank_path), seed=0)
    samples = [sampler[index].arrays for index in range(count)]
    filters: dict[str, dict[str, Any]] = {
        "none": {},
        "lzf": {"compression": "lzf"},
        "gzip-1": {"compression": "gzip", "compression_opts": 1},
        "gzip-4": {"compression": "gzip", "compression_opts": 4},
    }
    try:
        import hdf5plugin
    except ImportError:
        pass
    else:
        filters["zstd-3 (plug-in)"] = dict(hdf5plugin.Zstd(clevel=3))
    lines = {}
    for filter_name, options in filters.items():
        for array in ("img", "seg"):
            path = Path(work) / "compression.hdf5"

            def write(path: Path = path, array: str = array, options: dict[str, Any] = options) -> None:
                with h5py.File(path, "w") as file:
                    for number, arrays in enumerate(samples):
                        file.create_dataset(f"{number:06d}/{array}", data=arrays[array], **options)

            def read(path: Path = path, array: str = array) -> None:
                with h5py.File(path, "r") as file:
                    for group in file.values():
                        group[array][()]

            seconds = min(timed(write, 3)) / count, min(timed(read, 3)) / count
            share = path.stat().st_size / sum(arrays[array].nbytes for arrays in samples)
            lines[f"{filter_name}, {array}"] = [share, *(1e3 * s for s in seconds)]
    return {"lines": lines}


def processor(workers: int) -> dict[str, object]:
    """Time a fixed sum of work in numpy, shared out to processes that have nothing else in common."""
    import subprocess

    setup, repeats = "import numpy as np; values = np.random.default_rng(0).random(2**18)", 4800 // workers
    code = f"{setup}\nfor _ in range({repeats}): np.sort(values)"

    def run() -> None:
        for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(workers)]:
            if process.wait():
                raise RuntimeError("the loop failed")

    return {"seconds": timed(run, 3)}


def start(bank_path: str) -> dict[str, object]:
    """Time a worker's start, from its process to the moment it is ready to make a sample, all kernels loaded."""
    import subprocess

    from voxmint.datasets.format import Output
    from voxmint.datasets.hdf5 import Hdf5Format
    from voxmint.generators import remote
    from voxmint.pairs.recipe import PairRecipe
    from voxmint.pairs.sampler import PairSampler
    from voxmint.templates.bank import TemplateBank

    sampler = PairSampler(PairRecipe(), TemplateBank.open(bank_path), count=1)
    output = Output(Path(bank_path).absolute(), 1, sampler.layout())
    job = json.dumps({"sampler": remote(sampler), "format": Hdf5Format().spec(), "output": output.spec()})

    def until_ready() -> None:
        command = [sys.executable, "-P", "-m", "voxmint.runs.local.worker"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(job + "\n")
            worker.stdin.flush()
            ready = any("ready" in said for said in worker.stdout)  # a note that kernels are compiled may come first
            worker.kill()
        if not ready:
            raise RuntimeError("the worker did not start")

    until_ready()  # the kernels may have to be compiled first
    return {"seconds": timed(until_ready, 5)}


def nibabel_bank(tree: str, out: str) -> dict[str, object]:
    """Time the plain way to prepare templates: nibabel load, bounding box, save."""
    import nibabel as nib

    def prepare() -> None:
        for path in sorted(Path(tree).glob("s*/segmentations/*.nii.gz")):
            image = nib.load(path)
            mask = np.asanyarray(image.dataobj)
            found = np.argwhere(mask)
            if found.size:
                low, high = found.min(0), found.max(0) + 1
                box = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
                nib.save(nib.Nifti1Image(box, image.affine), Path(out) / f"{path.parts[-3]}_{path.name}")

    return {"seconds": timed(prepare)}


def our_bank(tree: str, out: str) -> dict[str, object]:
    """Time our way in one process: read, cut, pack, write."""
    from voxmint.templates.folders import open_source
    from voxmint.templates.source import templates_of
    from voxmint.templates.writing import write_bank

    def prepare() -> None:
        source = open_source(tree)
        write_bank(Path(out) / "bank", (t for i in range(len(source)) for t in templates_of(source[i])))

    return {"seconds": timed(prepare)}


def loader(bank_path: str, side: int, count: int) -> dict[str, object]:
    """Time pairs made on the fly by two workers of a DataLoader."""
    from torch.utils.data import DataLoader

    from voxmint.pairs.recipe import PairRecipe
    from voxmint.pairs.sampler import PairSampler
    from voxmint.torch import PairDataset

    data = PairDataset(PairSampler(PairRecipe(side=side), bank_path, count=count))
    return {"seconds": timed(lambda: [None for _ in DataLoader(data, num_workers=2, batch_size=1)])}


def main() -> None:
    """Run the measurement that the arguments name, as JSON."""
    import measure_instances

    name, *arguments = json.loads(sys.argv[1])
    result = (globals().get(name) or getattr(measure_instances, name))(*arguments)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = usage.ru_utime + usage.ru_stime
    for key in ("ensemble", "views"):
        if key in result:
            result[f"{key}_mean"] = statistics.fmean(result[key])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
