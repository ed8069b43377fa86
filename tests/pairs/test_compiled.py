"""Kernels are compiled once for all processes, for the types that a run gives them, and only where samples are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import COMPILED
from test_plain_python import RECIPE

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.generators import remote
from voxmint.pairs.recipe import PairRecipe
from voxmint.pairs.sampler import PairSampler
from voxmint.runs.execute import execute
from voxmint.runs.progress import Silent
from voxmint.templates.bank import TemplateBank

compiles = pytest.mark.skipif(not COMPILED, reason="the compiler is off")
SIGNATURES = """
import json, sys
from voxmint.generators import open_remote

def signatures():
    kernels = (m for name, m in sys.modules.items() if name.startswith("voxmint.pairs.engines.cpu.kernels."))
    return {f"{f.py_func.__module__}.{name}": len(f.signatures)
            for m in kernels for name, f in vars(m).items() if hasattr(f, "signatures")}

samplers = [open_remote(json.loads(job)) for job in sys.argv[1:]]
for sampler in samplers:
    sampler.prepare()
before = signatures()
assert sum(before.values()) > 10, before
for sampler in samplers:
    sampler[0]
after = signatures()
print(json.dumps([name for name in after if after[name] != before.get(name, 0)]))
"""
SHAPES = """
import json
from voxmint.templates.procedural.kernels import fields, parts, surface
from voxmint.templates.procedural.compiled import ensure_compiled
from voxmint.templates.procedural.anatomy import KINDS
from voxmint.templates.procedural.source import ProceduralSource

def signatures():
    functions = {name: f for module in (fields, parts, surface) for name, f in vars(module).items()}
    return {name: len(f.signatures) for name, f in functions.items() if hasattr(f, "signatures")}

ensure_compiled()
before = signatures()
assert sum(before.values()) > 4, before
source = ProceduralSource(2 * len(KINDS), 0)
for index in range(len(source)):
    source[index]
after = signatures()
print(json.dumps([name for name in after if after[name] != before[name]]))
"""
PAIR = """
import json, sys
from voxmint.generators import open_remote

print(open_remote(json.loads(sys.argv[1]))[0].digest())
"""
MODULES = """
import sys
from voxmint.make import make_pairs
from voxmint.pairs.recipe import PairRecipe

assert not make_pairs(PairRecipe(side=16), sys.argv[1], 2, templates=sys.argv[2], dry_run=True).complete
print(*(name for name in ("numba", "llvmlite", "scipy") if name in sys.modules))
"""


class Heard(Silent):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember."""
        self.notes.append(text)


def said(script: str, *arguments: str) -> str:
    """Run a script in a fresh process; return what it prints."""
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@compiles
def test_a_pair_needs_no_kernel_that_the_start_left_out(bank: TemplateBank) -> None:
    """Pairs with every step taken, of two sizes, call each kernel with the types it was compiled for at the start."""
    samplers = [
        PairSampler(PairRecipe.from_dict(RECIPE | {"shape": shape}), bank) for shape in ((16, 17, 20), (48, 48, 48))
    ]
    assert json.loads(said(SIGNATURES, *(json.dumps(remote(sampler)) for sampler in samplers))) == []


@compiles
def test_procedural_templates_need_no_kernel_that_the_start_left_out() -> None:
    """So do shapes of every kind."""
    assert json.loads(said(SHAPES)) == []


def test_planning_needs_no_compiler(bank: TemplateBank, tmp_path: Path) -> None:
    """The process that plans a run and watches its workers imports neither compiler nor SciPy."""
    assert said(MODULES, str(tmp_path), str(bank.path)) == ""


@pytest.mark.stress
@compiles
def test_shapes_are_compiled_by_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six processes that start together with an empty cache make the same shape; one of them compiles."""
    monkeypatch.setitem(os.environ, "NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    script = (
        "from voxmint.templates.procedural.source import ProceduralSource; print(ProceduralSource(1, 0)[0].digest())"
    )
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    said_by = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * 6, said_by
    assert len({digest for digest, _ in said_by}) == 1
    assert sum("compiling kernels" in told for _, told in said_by) == 1


@pytest.mark.stress
@compiles
def test_compiling_is_told_once(bank: TemplateBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers that find an empty cache tell the user once that kernels are compiled; the next run does not."""
    monkeypatch.setitem(os.environ, "NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    told = []
    for run in ("first", "second"):
        heard = Heard()
        sampler = PairSampler(PairRecipe.from_dict(RECIPE), bank, count=3)
        execute(sampler, Hdf5Format(), tmp_path / run, workers=3, progress=heard)
        told.append(heard.notes)
    assert [["compiling kernels" in note for note in notes] for notes in told] == [[True], []]


@pytest.mark.stress
@compiles
def test_unlike_processors_share_a_cache(bank: TemplateBank, tmp_path: Path) -> None:
    """Of 32 processes on two kinds of processor that start together, one of each kind compiles; pairs are the same."""
    sampler = PairSampler(PairRecipe.from_dict(RECIPE), bank)
    command = [sys.executable, "-c", PAIR, json.dumps(remote(sampler))]
    started = []
    for kind in [{}, {"NUMBA_CPU_NAME": "generic"}] * 16:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")} | kind
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
    said_by = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [0] * 32, said_by
    assert {digest.strip() for digest, _ in said_by} == {sampler[0].digest()}
    assert [sum("compiling kernels" in told for _, told in said_by[kind::2]) for kind in (0, 1)] == [1, 1]
    assert len(list((tmp_path / "cache").glob("kernels_*/voxmint-*"))) == 2
