"""A template bank as the output of a run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from toy import contents

from voxmint.datasets.bank import BankFormat
from voxmint.datasets.format import Output, format_from_spec
from voxmint.errors import StorageError
from voxmint.runs.execute import execute
from voxmint.runs.repair import repair
from voxmint.runs.verify import verify
from voxmint.templates.bank import TemplateBank
from voxmint.templates.procedural.source import ProceduralSource
from voxmint.templates.source import templates_of

SOURCE = ProceduralSource(count=3, seed=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bank made by one worker in one go."""
    directory = tmp_path_factory.mktemp("bank")
    execute(SOURCE, BankFormat(), directory, workers=1)
    return directory


def test_bank_is_the_same_for_any_workers_and_interruption(whole, tmp_path):
    """Parts made by two workers, in two runs, become the bank that one worker makes; no parts are left."""
    execute(SOURCE, BankFormat(), tmp_path, workers=2, only=range(2))
    assert not (tmp_path / "templates.bank").exists()
    assert verify(tmp_path).ok
    execute(SOURCE, BankFormat(), tmp_path, workers=2)
    assert contents(tmp_path) == contents(whole)
    assert not (tmp_path / "templates.bank.parts").exists()
    assert len(TemplateBank.open(tmp_path / "templates.bank")) == 3
    assert verify(tmp_path).ok


@pytest.mark.parametrize(
    "damage", ["flip", *(pytest.param(kind, marks=pytest.mark.stress) for kind in ("cut", "delete"))]
)
def test_damaged_bank_is_made_again_as_a_whole(whole, tmp_path, damage):
    """A bank keeps no single samples, so repairing it makes all of them."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "templates.bank"
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    elif damage == "cut":
        path.write_bytes(data[:-5])
    else:
        path.unlink()
    assert repair(SOURCE, BankFormat(), tmp_path, workers=1).made == len(SOURCE)
    assert contents(tmp_path) == contents(whole)


def test_damaged_part_is_told_and_never_taken_for_another(tmp_path):
    """Whichever bit of a waiting part flips, wherever it is cut: its templates are the same, or it is named."""
    format, output = BankFormat(), Output(tmp_path, 1, {})
    format.begin(output)
    format.write(output, SOURCE[0])
    (sound,) = templates_of(SOURCE[0])
    path = tmp_path / "templates.bank.parts/000000.npz"
    whole, told = path.read_bytes(), 0
    for n in range(0, len(whole), 1 + len(whole) // 100):
        for data in (whole[:n], whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :]):
            path.write_bytes(data)
            try:
                (found,) = format._templates(output)
            except StorageError as error:
                told += str(path) in str(error)
            else:
                assert (found.name, found.shape) == (sound.name, sound.shape)
                assert np.array_equal(found.words, sound.words)
    assert told > 130


def test_spec_round_trip():
    """A format equals the one built from its spec."""
    format = BankFormat(file="shapes.bank")
    assert format_from_spec(format.spec()) == format
