"""What the tests of pairs share: a bank of small varied shapes, and the plain reference on the import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import Template, pack
from voxmint.templates.writing import write_bank

sys.path.insert(0, str(Path(__file__).parents[1]))

from sizes import COMPILED, sized

from reference.shapes import varied_masks

SHAPE_SIDE = sized(33, 17)
"""Side that the bank's shapes are sized for: some are larger."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: on arrays this small more only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _integers_wrap_around() -> Iterator[None]:
    """Let integers overflow in kernels that run as plain Python: compiled, they wrap around in silence."""
    before = np.seterr(over="warn" if COMPILED else "ignore")
    yield
    np.seterr(**before)


@pytest.fixture(scope="session")
def masks() -> list[NDArray[np.bool_]]:
    """Return small varied shapes, cropped."""
    return varied_masks(0, SHAPE_SIDE)


@pytest.fixture(scope="session")
def bank(masks: list[NDArray[np.bool_]], tmp_path_factory: pytest.TempPathFactory) -> TemplateBank:
    """Return a bank of `masks`, in their order."""
    templates = []
    for number, mask in enumerate(masks):
        words, shape = pack(mask)
        assert shape == mask.shape
        templates.append(Template(f"shape{number:02d}", words, shape, int(mask.sum())))
    return write_bank(tmp_path_factory.mktemp("bank") / "shapes.h5", templates)
