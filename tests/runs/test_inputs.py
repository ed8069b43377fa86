"""Inputs that change under a run: nothing that was made of a changed one is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy import ToySampler, contents

import voxmint.runs.commit as module
from voxmint.datasets import ledger
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import InputError, RunError
from voxmint.runs.execute import execute
from voxmint.runs.progress import Silent
from voxmint.runs.verify import verify


class Spoiler(Silent):
    """Changes an input as soon as so many samples were made."""

    def __init__(self, path: Path, after: int, text: str) -> None:
        self.path, self.left, self.text = path, after, text

    def advance(self) -> None:
        """Count a sample that a worker reported."""
        self.left -= 1
        if self.left == 0:
            self.path.write_text(self.text)


def test_what_is_made_after_an_input_changed_is_not_recorded(tmp_path, monkeypatch):
    """The input is looked at again before each group of samples is recorded; put back, the run ends as undisturbed."""
    monkeypatch.setattr(module, "GROUP_SECONDS", 0.0)
    checked = tmp_path / "checked"
    checked.write_text("as it was")
    sampler = ToySampler(side=4, seconds=0.05, checked=str(checked))
    with pytest.raises(InputError, match="the input changed"):
        execute(sampler, NpyFormat(), tmp_path / "out", workers=1, progress=Spoiler(checked, 5, "another"))
    stored = verify(tmp_path / "out").samples
    assert stored <= 5
    with pytest.raises(InputError, match="the input changed"):
        execute(sampler, NpyFormat(), tmp_path / "out", workers=1)
    assert verify(tmp_path / "out").samples == stored
    checked.write_text("as it was")
    assert execute(sampler, NpyFormat(), tmp_path / "out", workers=1).made == 12 - stored
    execute(sampler, NpyFormat(), tmp_path / "plain", workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


def test_a_part_that_is_read_with_two_contents_is_named(tmp_path, monkeypatch):
    """All samples read part 0: those made after it changed are not recorded, by this run or a later one."""
    monkeypatch.setattr(module, "GROUP_SECONDS", 0.0)
    folder = tmp_path / "input"
    folder.mkdir()
    for index in range(12):
        (folder / str(index)).write_text(f"digest {index}")
    sampler = ToySampler(side=4, seconds=0.05, input=str(folder))
    spoiler = Spoiler(folder / "0", 4, "another")
    for progress in (spoiler, None):
        with pytest.raises(InputError, match="input 0: an input changed"):
            execute(sampler, NpyFormat(), tmp_path / "out", workers=1, progress=progress)
        assert 0 < verify(tmp_path / "out").samples < 12
    (folder / "0").write_text("digest 0")
    assert execute(sampler, NpyFormat(), tmp_path / "out", workers=1).complete
    execute(sampler, NpyFormat(), tmp_path / "plain", workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


def test_lost_samples_are_forgotten_before_they_are_made_again(tmp_path):
    """A sample whose file is gone has no line any more, should its new file be written and not recorded."""
    sampler = ToySampler(side=4)
    execute(sampler, NpyFormat(), tmp_path, workers=1, only=range(6))
    next(tmp_path.rglob(f"*{sampler[5].key}*.npy")).unlink()
    with pytest.raises(RunError, match="the input is cut"):
        execute(replace(sampler, faults={"5": "input"}), NpyFormat(), tmp_path, workers=1)
    kept = [ledger.index_of(entry) for entry, _ in ledger.read_ledger(tmp_path / ".voxmint/ledger.jsonl")]
    assert sorted(kept) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert execute(sampler, NpyFormat(), tmp_path, workers=1).made == 1
    assert verify(tmp_path).ok


def test_a_run_reads_its_ledger_once(tmp_path, monkeypatch):
    """One pass tells a run that goes on all it needs of what is stored, however many need it."""
    execute(ToySampler(side=4), NpyFormat(), tmp_path, workers=1, only=range(11))
    passes = []
    monkeypatch.setattr(ledger, "read_ledger", lambda path, read=ledger.read_ledger: passes.append(path) or read(path))
    assert execute(ToySampler(side=4), NpyFormat(), tmp_path, workers=1).complete
    assert passes == [tmp_path / ".voxmint/ledger.jsonl"]
