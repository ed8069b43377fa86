"""Runs that are killed and resumed with one input changed: refused by name, or wholly of one state of the inputs."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from chance import chance
from voxmint.cli import main
from voxmint.phantom.layers import make_phantom
from voxmint.runs.verify import verify

COMMAND = "import sys, voxmint.runs.commit as c; c.GROUP_SECONDS = 0.05; from voxmint.cli import main; sys.exit(main())"
"""The command line, but for samples that are recorded at once: a run of a second is killed with some of them stored."""
PAIRS = ["--count", "24", "--side", "32", "--min-templates", "3", "--max-templates", "6"]
INSTANCES = ["--table-voxel-size", "16,16,30", "--crop", "48,48,16", "--scenarios", "4"]
KINDS = ("pairs", "pairs in their own folder", "instances npy", "instances hdf5")
LAST = 0.8
"""Largest share of samples recorded at which a run is killed."""
TIMES = 4
"""How often a round is begun anew because its run ended before it was killed."""
UNCUT = "never cut"


@dataclass
class Case:
    """A command, its inputs, and what it makes of them undisturbed."""

    folder: Path
    words: list[str]
    samples: int
    out: Path
    changes: dict[str, Callable[[random.Random], Change]] = field(default_factory=dict)

    def run(self, *more: str, out: Path | None = None) -> subprocess.Popen[str]:
        words = [*self.words, "--out", str(out or self.out), "--workers", "2", *more]
        return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, text=True)  # fmt: skip

    def ended(self, *more: str, out: Path | None = None) -> tuple[int, str]:
        process = self.run(*more, out=out)
        _, said = process.communicate(timeout=300)
        return process.returncode, said


@dataclass
class Change:
    """One input changed: what a refusal must name, words added to the command, and how it is undone."""

    names: str
    restore: Callable[[], object]
    words: tuple[str, ...] = ()
    outside: bool = True
    """Whether a run in another folder sees the change, too."""


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rewrite(path: Path, data: bytes, names: str, *, outside: bool = True) -> Change:
    """Replace a file's content; the change that can be undone."""
    before = path.read_bytes()
    assert data != before
    path.write_bytes(data)
    return Change(names, lambda: path.write_bytes(before), outside=outside)


def change_bank(path: Path, rng: random.Random, *, outside: bool) -> Change:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return rewrite(path, bytes(data), r"templates", outside=outside)


def change_chunk(layer: Path, rng: random.Random, out: Path) -> Change:
    """Give a chunk other voxels of the same kinds: those of its own, moved. Half of the time one that was read."""
    chunks = [path for path in sorted(layer.glob("*/*")) if len(set(path.read_bytes()[::4])) > 1]
    ledger = out / ".voxmint/ledger.jsonl"
    known = set(re.findall(rf'"{layer.name} (\S+?)"', ledger.read_text())) if ledger.exists() else set()
    read = [path for path in chunks if path.name in known]
    path = rng.choice(read if read and rng.random() < 0.5 else chunks)
    voxels = np.frombuffer(path.read_bytes(), np.uint32 if layer.name == "target" else np.uint8)
    moved = next(data for n in range(5, 500) if (data := np.roll(voxels, n).tobytes()) != voxels.tobytes())
    return rewrite(path, moved, rf"{layer}.*{layer.name}.*{path.name}")


def change_row(table: Path, rng: random.Random) -> Change:
    lines = table.read_text().splitlines()
    number = rng.randrange(1, len(lines))
    x, rest = lines[number].split(",", 1)
    lines[number] = f"{int(x) + rng.choice([-2, 2])},{rest}"
    return rewrite(table, ("\n".join(lines) + "\n").encode(), r"rows\.|rows of instances")


def change_recipe(path: Path, rng: random.Random) -> Change:
    """Add 1 to one of the numbers that define the data set, or change its generator's text."""
    if not path.exists():  # killed before the run began
        return Change("", lambda: None)
    about = yaml.safe_load(path.read_text())
    names = [name for name in ("seed", "count") if name in about]
    inner = [name for name, value in about["recipe"].items() if isinstance(value, int) and not isinstance(value, bool)]
    name = rng.choice([*names, *inner])
    where = about if name in names else about["recipe"]
    where[name] += 1
    return rewrite(path, yaml.safe_dump(about, sort_keys=False).encode(), rf"\b{name}\b", outside=False)


def change_rows_file(path: Path, rng: random.Random) -> Change:
    if not path.exists():
        return Change("", lambda: None)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return rewrite(path, bytes(data), r"rows\.npy", outside=False)


def flag(words: tuple[str, ...], names: str) -> Callable[[random.Random], Change]:
    return lambda _: Change(names, lambda: None, words)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("inputs")
    bank, layers = folder / "bank", folder / "layers"
    assert main(["templates", "procedural", "--out", str(bank), "--count", "12", "--seed", "3"]) == 0
    make_phantom(layers, size=(320, 320, 40), instances=24)
    made: dict[str, Case] = {}
    for format, kind, templates in (("hdf5", KINDS[0], str(bank)), ("nifti", KINDS[1], "procedural")):
        out = folder / kind.replace(" ", "_")
        words = ["pairs", "make", *PAIRS, "--format", format, "--templates", templates]
        path = (bank if templates != "procedural" else out / "templates") / "templates.bank"
        made[kind] = Case(folder, words, 24, out)
        made[kind].changes = {
            "bank": lambda rng, path=path, outside=path.parent == bank: (
                change_bank(path, rng, outside=outside) if path.exists() else Change("", lambda: None)
            ),
            "flag": flag(("--seed", "9"), "seed"),
        }
    places = [f"--{name}={layers / name}" for name in ("source", "target")]
    table = layers / "materialization.csv"
    for format, kind in (("npy", KINDS[2]), ("hdf5", KINDS[3])):
        out = folder / kind.replace(" ", "_")
        words = ["instances", "make", *places, "--table", str(table), *INSTANCES, "--format", format]
        made[kind] = Case(folder, words, 96, out)
        made[kind].changes = {
            "source chunk": lambda rng, out=out: change_chunk(layers / "source", rng, out),
            "target chunk": lambda rng, out=out: change_chunk(layers / "target", rng, out),
            "table": lambda rng: change_row(table, rng),
            "rows.npy": lambda rng, out=out: change_rows_file(out / "rows.npy", rng),
            "flag": flag(("--seeds", "spread"), r"seeds|recipe"),
        }
    for case in made.values():
        case.changes["recipe.yaml"] = lambda rng, out=case.out: change_recipe(out / "recipe.yaml", rng)
    return made


@pytest.fixture(scope="module")
def undisturbed(cases: dict[str, Case]) -> Callable[[str], dict[str, bytes]]:
    """What a command makes; in the same folder, since a recipe says where its bank lies."""

    @cache
    def of(kind: str) -> dict[str, bytes]:
        case = cases[kind]
        code, said = case.ended()
        assert code == 0, said
        made = contents(case.out)
        shutil.rmtree(case.out)
        return made

    return of


def recorded(case: Case) -> float:
    """Return the share of samples that are recorded."""
    with contextlib.suppress(OSError):
        return (case.out / ".voxmint/ledger.jsonl").read_bytes().count(b"\n") / case.samples
    return 0.0


def cut(case: Case, rng: random.Random) -> bool:
    """Run, and kill a worker and then the parent, or the parent alone; False if the run ended before."""
    process = case.run()
    share = rng.uniform(0, LAST)
    worker = rng.random() < 0.5
    while process.poll() is None and recorded(case) < share:
        time.sleep(0.002)
    if worker and process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            rng.choice(psutil.Process(process.pid).children()).kill()
        time.sleep(rng.uniform(0, 0.1))
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children()
        process.kill()
        psutil.wait_procs(children, timeout=10)
    process.communicate()
    return not (case.out / "manifest.jsonl").exists()


def play(case: Case, name: str, whole: dict[str, bytes], rng: random.Random) -> str:
    """Cut a run, change an input, resume, restore and resume; return what became of it."""
    for _ in range(TIMES):
        shutil.rmtree(case.out, ignore_errors=True)
        if cut(case, rng):
            break
    else:
        return UNCUT
    change = case.changes[name](rng)
    try:
        code, said = case.ended(*change.words)
        assert "Traceback" not in said, said
        if code == 0:
            made = contents(case.out)
            assert verify(case.out).ok
            if made != whole:
                shutil.rmtree(case.out)
                code, said = case.ended(*change.words)
                assert code == 0, f"{name}: refused anew, accepted by a run that was begun: {said}"
                assert made == contents(case.out), f"{name}: a mixture of samples"
                return "finished as changed"
            return "finished as unchanged"
        assert change.names, f"refused without a change: {said}"
        assert re.search(change.names, said), f"{name} is not named: {said}"
    finally:
        change.restore()
    code, said = case.ended()
    assert code == 0, f"{name} restored: {said}"
    made = contents(case.out)
    wrong = [file for file in {**made, **whole} if made.get(file) != whole.get(file)]
    assert not wrong, f"{name} restored: {wrong}"
    return "refused"


@pytest.mark.stress
@pytest.mark.parametrize("rounds", [100])
def test_a_changed_input_is_refused_or_the_only_one(cases, undisturbed, rounds) -> None:
    """Whatever input changes between kill and resume: never a mixture, refusals name it, restored it ends the same."""
    rng, outcomes = chance(), Counter[tuple[str, str]]()
    turns = [(kind, name) for kind in KINDS for name in cases[kind].changes]
    rng.shuffle(turns)
    names = {name: (kind, name) for kind, name in turns}  # the first rounds have every change
    turns = [*names.values(), *(turn for turn in turns if turn not in names.values())]
    for number in range(rounds):
        kind, name = turns[number % len(turns)]
        outcome = play(cases[kind], name, undisturbed(kind), rng)
        outcomes[name, outcome] += 1
    print(f"kills landed: {rounds - sum(outcomes[name, UNCUT] for name in names)} of {rounds}")
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name}: {outcome} {count} times")
    print("mixed data sets: 0")  # `play` fails on the first one
    if rounds >= 5 * len(turns):
        assert not [name for name in names if not outcomes[name, "refused"]], "never refused"
