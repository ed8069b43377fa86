"""Shards of one data set, made by runs that know nothing of each other."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from toy import ToySampler, contents

from stores import FORMATS
from voxmint.datasets.format import Output
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import InputError, PlanError
from voxmint.runs.execute import execute
from voxmint.runs.shard import Shard, shards_of
from voxmint.runs.verify import verify

RANGES = [range(0, 5), range(5, 7), range(7, 12)]


def test_shards_in_any_order_end_in_the_bytes_of_one_run(made, format, tmp_path):
    """The last of three to end finishes the data set, whichever it is."""
    ranges = random.Random(1).sample(RANGES, 3)
    done = [execute(ToySampler(), format, tmp_path, workers=1, only=only) for only in ranges]
    assert [result.made for result in done] == [len(only) for only in ranges]
    assert [result.complete for result in done] == [False, False, True]
    assert contents(tmp_path) == contents(made(format))


def test_shards_at_the_same_time_end_in_the_bytes_of_one_run(made, format, tmp_path):
    """Three runs that start together do not wait for each other's samples, and one of them finishes."""
    sampler, results = ToySampler(seconds=0.1), []

    def run(only: range) -> None:
        results.append(execute(sampler, format, tmp_path, workers=1, only=only))

    threads = [threading.Thread(target=run, args=(only,)) for only in RANGES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.made for result in results) == [2, 5, 5]
    assert sum(result.complete for result in results) == 1
    assert contents(tmp_path) == contents(made(format))
    assert not list(shards_of(Output.at(tmp_path)))


def test_nobody_makes_what_another_run_is_making(tmp_path, format):
    """While a shard is being made, one that overlaps it and a run of the whole are refused; another one is not."""
    execute(ToySampler(), format, tmp_path, workers=1, only=range(1))
    output = Output.at(tmp_path)
    with Shard(0, 6).hold(output):
        for only in (range(5, 8), None):
            with pytest.raises(PlanError, match="another run is making some of these"):
                execute(ToySampler(), format, tmp_path, workers=1, only=only)
        assert execute(ToySampler(), format, tmp_path, workers=1, only=range(6, 9)).made == 3
    assert execute(ToySampler(), format, tmp_path, workers=1).complete


def test_what_a_killed_shard_stored_is_kept(made, format, tmp_path, driver):
    """The next run of any kind takes over the ledger of a run that was killed."""
    process = driver.start(ToySampler(seconds=0.1), format, tmp_path, workers=1, only=[2, 11])
    ledger = tmp_path / ".voxmint/shards/000000002-000000011/ledger.jsonl"
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
    process.kill()
    process.wait()
    stored = verify(tmp_path).samples
    assert stored >= 3
    result = execute(ToySampler(), format, tmp_path, workers=1)
    assert result.complete
    assert result.made == 12 - stored
    assert contents(tmp_path) == contents(made(format))


def test_a_lost_file_of_a_killed_shard_is_made_again(made, tmp_path):
    """Before its ledger goes over into the data set's, what it says is stored is looked for."""
    tree = FORMATS["nifti"]
    execute(ToySampler(), tree, tmp_path, workers=1, only=range(5))
    (tmp_path / ".voxmint/ledger.jsonl").rename(Shard(0, 5).folder(Output.at(tmp_path)) / "ledger.jsonl")
    next(tmp_path.glob("label_ensembles/*")).unlink()
    assert execute(ToySampler(), tree, tmp_path, dry_run=True).plan.done == 4
    assert execute(ToySampler(), tree, tmp_path, workers=1).made == 8
    assert contents(tmp_path) == contents(made(tree))


def test_shards_that_read_two_contents_are_no_data_set(tmp_path):
    """What one shard read of an input must be what the others did; the part is named."""
    folder = tmp_path / "input"
    folder.mkdir()
    for index in range(12):
        (folder / str(index)).write_text(f"digest {index}")
    sampler, out = ToySampler(input=str(folder)), tmp_path / "out"
    execute(sampler, NpyFormat(), out, workers=1, only=range(6))
    Path(folder / "0").write_text("another digest")
    with pytest.raises(InputError, match=r"input, input 0: an input changed"):
        execute(sampler, NpyFormat(), out, workers=1, only=range(6, 12))
    assert not verify(out).finished
    Path(folder / "0").write_text("digest 0")
    assert execute(replace(sampler), NpyFormat(), out, workers=1).complete
    assert verify(out).ok
