"""Measure voxmint beside the plain reference, on this machine, in one go; print tables and write them as JSON.

    python benchmarks/run.py [--tree TREE] [--out benchmarks/results.json] [--sides 64 128 256] [--quick]

Each line is measured in processes of one thread each, ours and the reference on the same templates and parameters.
Absolute seconds depend on the machine and on what else it does; the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inputs import make_tree

HERE = Path(__file__).parent
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
MEMORY = {f"MALLOC_{name}_THRESHOLD_": str(1 << 30) for name in ("MMAP", "TRIM")}
"""What a run gives its workers; both sides get it here."""
PACKAGES = ("numpy", "numba", "scipy", "h5py", "torch", "monai", "nibabel")


def measure(name: str, *arguments: object) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, str(HERE / "measure.py"), json.dumps([name, *arguments])]
    done = subprocess.run(
        command, env={**os.environ, **THREADS, **MEMORY}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Table:
    """Lines of (what, ours, the reference's, ratio or value, target, met)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def ratio(self, what: str, ours: list[float], reference: list[float], target: float | None) -> None:
        """Add how many times faster ours is, by totals: what a run of these samples, or repeats, takes."""
        factor = statistics.fmean(reference) / statistics.fmean(ours)
        self._add(what, f"{_spread(ours)} s", f"{_spread(reference)} s", f"{factor:.1f} times", factor, target, False)

    def value(self, what: str, value: float, unit: str, most: float | None, reference: str = "") -> None:
        """Add a figure that should not exceed ``most``."""
        self._add(what, f"{value:.2f} {unit}", reference, f"{value:.2f} {unit}", value, most, True)

    def _add(self, what: str, ours: str, reference: str, shown: str, figure: float, target: Any, most: bool) -> None:
        met = None if target is None else (figure <= target if most else figure >= target)
        row = {"what": what, "ours": ours, "reference": reference, "result": shown, "figure": figure}
        self.rows.append(row | {"target": target, "met": met})
        print(self.line(self.rows[-1]), flush=True)

    @staticmethod
    def line(row: dict[str, Any]) -> str:
        """Return a row as Markdown."""
        target = "" if row["target"] is None else f"{row['target']:g}"
        met = "" if row["met"] is None else "yes" if row["met"] else "**no**"
        return f"| {row['what']} | {row['ours']} | {row['reference']} | {row['result']} | {target} | {met} |"


def pairs_table(tree: Path, work: Path, sides: list[int], quick: bool) -> tuple[Table, Path]:
    """Measure ensembles, views, whole runs, banks and memory."""
    table = Table()
    print("| what | voxmint | plain reference | result | target | met |\n|---|---|---|---|---|---|")
    command("templates", "prepare", str(tree), "--out", str(work / "bank"))
    bank = work / "bank"
    targets = {64: (15, 5), 128: (30, 10), 256: (15, 5)}
    memory = {128: 300, 256: 900}
    for side in sides:
        few = 2 if quick else 4 if side > 128 else 16
        ours = measure("ours", str(bank), side, max(16, few))
        reference = measure("reference", str(bank), str(tree), side, few)
        wanted = targets.get(side, (None, None))
        table.ratio(f"label ensemble, {side}^3", ours["ensemble"][:few], reference["ensemble"], wanted[0])
        table.ratio(f"two views, {side}^3", ours["views"][:few], reference["views"], wanted[1])
        both = [list(map(sum, zip(r["ensemble"][:few], r["views"][:few], strict=True))) for r in (ours, reference)]
        table.ratio(f"pair, {side}^3", both[0], both[1], 5)
        reference_mb = f"{reference['peak_mb'] - reference['before_mb']:.0f} MB"
        beyond = ours["peak_mb"] - ours["before_mb"]
        table.value(f"peak memory beyond a started worker, {side}^3", beyond, "MB", memory.get(side), reference_mb)
        table.value(f"peak memory of a worker, {side}^3", ours["peak_mb"], "MB", None, f"{reference['peak_mb']:.0f} MB")
    return table, bank


def run_lines(table: Table, tree: Path, bank: Path, work: Path, quick: bool) -> None:
    """Measure whole commands: pairs into HDF5 and workers."""
    count = 8 if quick else 40
    seconds = {}
    for workers in (1, 2):
        seconds[workers] = made_in(work, bank, count, workers)
    few = 2 if quick else 4
    reference = measure("reference_run", str(bank), str(tree), 128, few, str(work))["seconds"][0] / few
    table.ratio("pair into HDF5, 2 workers, from process start", [seconds[2] / count], [reference], 20)
    table.ratio(f"two workers over one, {count} pairs from process start", [seconds[2]], [seconds[1]], None)
    many = 16 if quick else 1000
    longer = [made_in(work, bank, many, workers) for workers in (1, 2)]
    table.ratio(f"two workers over one, {many} pairs", longer[1:], longer[:1], 1.9)
    alone, together = measure("processor", 1)["seconds"], measure("processor", 2)["seconds"]
    table.ratio("the same of a loop that shares nothing: what two cores of this machine give", together, alone, None)
    floor = measure("floor", 128)["seconds"]
    ours = measure("ours", str(bank), 128, 16)
    pair = ours["ensemble_mean"] + ours["views_mean"]
    table.value("a pair over its unavoidable work", pair / floor, "times", 3, f"{floor:.3f} s")
    start = measure("start", str(bank))["seconds"]
    table.value("worker start, kernels cached", statistics.median(start), "s", 0.7)
    cold = cold_start(work)
    table.value("first start ever, kernels compiled", cold, "s", 40)
    on_the_fly = measure("loader", str(bank), 128, count)["seconds"][0]
    table.value("pair in a DataLoader over pair in a run", on_the_fly / seconds[2], "times", 1.1)
    for name in ("plain", "packed"):
        (work / name).mkdir()
    plain = measure("nibabel_bank", str(tree), str(work / "plain"))["seconds"]
    table.ratio("bank, one process", measure("our_bank", str(tree), str(work / "packed"))["seconds"], plain, 5)


def instances_table(layers: Path, quick: bool) -> Table:
    """Measure instances from local layers and over a network with 50 ms added to each request."""
    table = Table()
    print("\n| what | voxmint | plain way | result | target | met |\n|---|---|---|---|---|---|")
    count = 24 if quick else 200
    ours = [measure("our_instances", str(layers), count)["cpu"] for _ in range(3)]
    plain = [measure("plain_instances", str(layers), count // 4)["cpu"] for _ in range(3)]
    table.ratio("CPU of an instance, crop 128x128x16, local layers", ours, plain, 25)
    slow = min((measure("slow_instances", str(layers), count) for _ in range(3)), key=lambda run: run["seconds"])
    least = slow["requests"] * 0.05 / slow["in_flight"]
    over = (
        f"{slow['seconds']:.2f} s over {slow['requests']} x 50 ms / {slow['in_flight']} in flight = {least:.2f} s; "
        f"CPU {slow['cpu']:.2f} s"
    )
    table.value(
        "instances over HTTP with 50 ms a request, over the least time", slow["seconds"] / least, "times", 1.5, over
    )
    asked = slow["chunks_before"] + slow["requests"]
    table.value("requests over distinct chunks", asked / slow["chunks"], "times", 1.05, f"{asked} of {slow['chunks']}")
    return table


def compression_table(bank: Path, work: Path, quick: bool) -> dict[str, list[float]]:
    """Measure what HDF5's filters would save and cost."""
    lines: dict[str, list[float]] = measure("compression", str(bank), 128, 2 if quick else 8, str(work))["lines"]
    print("\n| filter of HDF5, array | size over plain | ms to write one | ms to read one |\n|---|---|---|---|")
    for name, (share, write, read) in lines.items():
        print(f"| {name} | {share:.2f} | {write:.1f} | {read:.1f} |")
    return lines


def profile_table(bank: Path, quick: bool) -> dict[str, float]:
    """Measure what a pair's time goes to."""
    measured = measure("profile", str(bank), 128, 4 if quick else 32)
    lines: dict[str, float] = measured["lines"]
    print(f"\n| function, of {measured['total']:.0f} ms a pair at 128^3 under the profiler | ms |\n|---|---|")
    for name, spent in lines.items():
        print(f"| {name} | {spent:.1f} |")
    return lines


def made_in(work: Path, bank: Path, count: int, workers: int) -> float:
    """Return the seconds of a whole command that makes pairs at 128^3."""
    out = work / "run"
    flags = ["--out", str(out), "--count", str(count), "--templates", str(bank), "--workers", str(workers)]
    seconds = command("pairs", "make", *flags)
    shutil.rmtree(out)
    return seconds


def cold_start(work: Path) -> float:
    """Return the seconds until every kernel is compiled into an empty cache."""
    code = "from voxmint.pairs.engines.cpu.compiled import ensure_compiled; ensure_compiled()"
    started = time.perf_counter()
    environment = {**os.environ, **THREADS, "NUMBA_CACHE_DIR": str(work / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def command(*arguments: str) -> float:
    """Run a voxmint command and return its wall seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "voxmint", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def machine() -> dict[str, str]:
    """Return what the figures were taken on."""
    described = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    model = next((value.strip() for name, _, value in described if name.strip() == "model name"), "")
    packages = {name: version(name) for name in PACKAGES}
    about = {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version()}
    return about | packages | {"date": time.strftime("%Y-%m-%d"), "load": " ".join(f"{x:.1f}" for x in os.getloadavg())}


def _spread(seconds: list[float]) -> str:
    middle = statistics.fmean(seconds)
    return f"{middle:.3f} ({min(seconds):.3f} to {max(seconds):.3f})" if len(seconds) > 1 else f"{middle:.3f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, help="TotalSegmentator-like subjects, merged by step 0; made when absent")
    parser.add_argument("--layers", type=Path, help="folder of source, target, materialization.csv; made when absent")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.json"))
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as for a user
    with tempfile.TemporaryDirectory(prefix="voxmint-bench-") as folder:
        work = Path(folder)
        tree = arguments.tree or make_tree(work / "tree")
        about = machine()
        print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
        table, bank = pairs_table(tree, work, arguments.sides, arguments.quick)
        run_lines(table, tree, bank, work, arguments.quick)
        compression = compression_table(bank, work, arguments.quick)
        profile = profile_table(bank, arguments.quick)
        layers = arguments.layers
        if layers is None:
            layers = work / "phantom"
            command("instances", "phantom", "--out", str(layers), "--instances", "48")
        instances = instances_table(layers, arguments.quick)
    rows = {
        "machine": about,
        "pairs": table.rows,
        "compression": compression,
        "profile": profile,
        "instances": instances.rows,
    }
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
