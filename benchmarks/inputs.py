"""What the benchmarks run on: TotalSegmentator-like subjects of true size, made of procedural shapes or given."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxmint.nifti.files import write_nifti
from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import unpack
from voxmint.templates.procedural.source import ProceduralSource
from voxmint.templates.source import templates_of

CANVAS = (250, 210, 200)
STRUCTURES = 26
EMPTY = 78
"""Masks of a subject that hold something, and that do not: as in the published data set."""


def make_tree(folder: Path, subjects: int = 2) -> Path:
    """Write subjects of 104 masks each, 1.5 mm, most of them empty, unless they are there already."""
    done = folder / "done"
    if done.exists():
        return folder
    source = ProceduralSource(subjects * STRUCTURES, 1)
    nothing = np.zeros(CANVAS, np.uint8)
    for subject in range(subjects):
        masks = folder / f"s{subject:04d}" / "segmentations"
        masks.mkdir(parents=True, exist_ok=True)
        for number in range(STRUCTURES):
            template = templates_of(source[subject * STRUCTURES + number])[0]
            shape = unpack(template.words, template.shape)[tuple(slice(size) for size in CANVAS)]
            canvas = nothing.copy()
            start = [(size - length) // 2 for size, length in zip(CANVAS, shape.shape, strict=True)]
            canvas[tuple(slice(s, s + n) for s, n in zip(start, shape.shape, strict=True))] = shape
            write_nifti(masks / f"shape{number:02d}.nii.gz", canvas, np.diag([1.5, 1.5, 1.5, 1]))
        for number in range(EMPTY):
            write_nifti(masks / f"nothing_{number:02d}.nii.gz", nothing, np.diag([1.5, 1.5, 1.5, 1]))
    done.touch()
    return folder


def mask_paths(tree: Path, bank: TemplateBank) -> list[Path]:
    """Return the file of every template of a bank, in its order; merged ones must lie in the tree as files."""
    return [tree / name.partition("/")[0] / "segmentations" / f"{name.partition('/')[2]}.nii.gz" for name in bank.names]
