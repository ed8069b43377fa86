"""Kernels are plain Python too: without numba's compiler they make the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sizes import needs_compiler

from voxmint.generators import remote
from voxmint.pairs.recipe import PairRecipe
from voxmint.pairs.sampler import PairSampler
from voxmint.templates.bank import TemplateBank

CERTAIN = dict.fromkeys(
    ("bias_field", "kspace_spike", "gamma", "smoothing", "gibbs", "sharpening", "low_resolution", "thick_slices"), 1.0
)
RECIPE: dict[str, Any] = {
    "shape": [16, 17, 20],
    "min_templates": 3,
    "max_templates": 4,
    "foreground": {"probability": 1.0, "envelope_probability": 1.0},
    "view": {"artifacts": {f"{name}_probability": value for name, value in CERTAIN.items()}},
}
"""Small, no cube, and with every step taken."""
SCRIPT = """
import json, sys
from numba import config
from voxmint.generators import open_remote

assert config.DISABLE_JIT
sampler = open_remote(json.loads(sys.argv[1]))
print(sampler[0].digest(), sampler[1].digest())
"""


@needs_compiler
def test_pairs_without_the_compiler_are_the_same(bank: TemplateBank) -> None:
    """Small pairs with every step taken have the same digests in a process with NUMBA_DISABLE_JIT=1."""
    sampler = PairSampler(PairRecipe.from_dict(RECIPE), bank, seed=3)
    samples = [sampler[0], sampler[1]]
    assert all(sample.arrays["img"].std() > 1 for sample in samples)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(remote(sampler))],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [sample.digest() for sample in samples]


@pytest.mark.stress
@needs_compiler
def test_tests_of_kernels_pass_without_the_compiler(tmp_path: Path) -> None:
    """The tests of pairs and templates pass on tiny sizes in a process with NUMBA_DISABLE_JIT=1."""
    tests = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not stress", f"--basetemp={tmp_path / 'plain'}", "-p",
         "no:cacheprovider", str(tests / "pairs"), str(tests / "templates")],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
