"""The exit status of the command line, and the one message on standard error, for each way in which a command ends."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

import voxmint.make
import voxmint.make.instances
import voxmint.make.instances.checking
import voxmint.make.repair
import voxmint.runs.verify
from voxmint.cli import main
from voxmint.cli.signals import STOPPED
from voxmint.cli.told import told
from voxmint.errors import InputError

MAKE = ["pairs", "make", "--out", "out", "--count", "3"]
INSTANCES = ["instances", "check", "--source", "a", "--target", "b", "--table", "c", "--table-voxel-size", "1,1,1"]
RUN = {"plan": "the plan", "made": 0, "rejected": 0, "seconds": 2.0, "complete": False}


def ends(patch: pytest.MonkeyPatch, action: Any) -> int:
    """Make pairs, where ``action`` is what becomes of it."""
    patch.setattr(voxmint.make, "make_pairs", action)
    return main(MAKE)


def status_of(patch: pytest.MonkeyPatch, action: Any) -> int:
    """Return the status of the process, whether it is returned or raised."""
    try:
        return ends(patch, action)
    except SystemExit as end:
        return int(end.code or 0)


def raising(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_error_is_told_once_and_ends_with_1(monkeypatch, capsys) -> None:
    """What is wrong, where and the remedy stand on standard error, and nothing else anywhere."""
    error = InputError("no bank", where="there", remedy="make one")
    assert ends(monkeypatch, raising(error)) == 1
    assert tuple(capsys.readouterr()) == ("", f"voxmint: {error}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", STOPPED), ("3 of 9 are made", "3 of 9 are made")],
)
def test_what_is_stopped_ends_with_130(capsys, text, message) -> None:
    """Ctrl-C is no failure: what the run says, or a word, and the status that shells expect."""
    assert told(raising(KeyboardInterrupt(text))) == 130
    assert capsys.readouterr().err == f"voxmint: {message}\n"


def test_sigint_ends_a_command_with_130(monkeypatch) -> None:
    """The signal itself does, wherever in a command it comes, even if whoever runs the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert status_of(monkeypatch, lambda *_, **__: signal.raise_signal(signal.SIGINT)) == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_that_is_stopped_tells_what_the_run_says(monkeypatch, capsys) -> None:
    """How far it came, and that the same command goes on, reach whoever pressed Ctrl-C."""
    assert status_of(monkeypatch, raising(KeyboardInterrupt("3 of 9 are made"))) == 130
    assert capsys.readouterr().err == "voxmint: 3 of 9 are made\n"


def test_a_reader_that_went_away_ends_with_1(monkeypatch, capsys) -> None:
    """A closed pipe is told by the status alone: there is nobody to read."""
    assert ends(monkeypatch, raising(BrokenPipeError())) == 1
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["pairs", "make", "--out", "out"], "--count"),
        ([*MAKE, "--nonsense", "1"], "--nonsense"),
        ([*MAKE, "--seed", "one"], "--seed"),
        ([*MAKE, "--format", "zip"], "--format"),
        ([*MAKE, "--side", "8"], "greater than or equal to 16"),
        ([*MAKE, "--view.mean", "-5,20"], "--view.mean: "),
        (["instances", "make", *INSTANCES[2:], "--out", "out", "--seeds.few.limits", "3,1"], "--seeds.few: limits"),
        (["pears"], "pears"),
        (["templates", "download", "v3", "--out", "out"], "v3"),
    ],
)
def test_wrong_flags_end_with_2(monkeypatch, capsys, words, word) -> None:
    """A flag that is missing, unknown or has a wrong value is named before anything is called."""
    monkeypatch.setattr(voxmint.make, "make_pairs", raising(AssertionError("called")))
    assert main(words) == 2
    err = capsys.readouterr().err
    assert word in err
    assert "remedy" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("result", "dry", "message"),
    [
        ({"made": 1200, "complete": True}, False, "the plan\nmade      1,200 in 2.0 s\n"),
        ({"rejected": 2}, False, "the plan\nmade      0 in 2.0 s\nrejected  2, with the reasons in rejected.csv\n"),
        ({"complete": True}, False, "the plan\ncomplete already: nothing to do\n"),
        ({}, False, "the plan\n"),
        ({"made": 4}, True, "the plan\ndry run: nothing was written\n"),
    ],
)  # fmt: skip
def test_what_a_run_did_is_told(monkeypatch, capsys, result, dry, message) -> None:
    """The plan, then what was made and rejected, or why there was nothing to do."""
    monkeypatch.setattr(voxmint.make, "make_pairs", lambda *_, **__: SimpleNamespace(**RUN | result))
    assert main([*MAKE, "--dry-run"] if dry else MAKE) == 0
    assert capsys.readouterr().out == message


@pytest.mark.parametrize("ok", [True, False])
def test_verify_ends_with_1_and_the_command_that_repairs(monkeypatch, capsys, ok) -> None:
    """A data set that is not whole is a failure, and only then is its repair named."""
    monkeypatch.setattr(voxmint.runs.verify, "verify", lambda *_, **__: SimpleNamespace(ok=ok, where="some/set"))
    assert main(["verify", "some/set"]) == (0 if ok else 1)
    assert ("voxmint repair some/set" in capsys.readouterr().out) == (not ok)


@pytest.mark.parametrize(
    ("made", "ok", "message"),
    [(3, False, "made      3 samples again"), (0, False, "made      0 samples"), (0, True, "nothing to repair")],
)
def test_repair_tells_what_it_made(monkeypatch, capsys, made, ok, message) -> None:
    """What was found, and how many samples were made again; files alone may have been damaged, too."""
    done = SimpleNamespace(made=made, found=SimpleNamespace(ok=ok))
    monkeypatch.setattr(voxmint.make.repair, "repair_data_set", lambda *_, **__: done)
    assert main(["repair", "set"]) == 0
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--table-voxel-size", "1,1"], "--table-voxel-size"),
        (["--source-voxel-size", "1,1,inf"], "--source-voxel-size"),
        (["--target-voxel-size", "1,1,x"], "--target-voxel-size"),
    ],
)
def test_the_flag_with_the_wrong_size_is_named(monkeypatch, capsys, given, word) -> None:
    """Three flags take sizes: the message names the one that is wrong."""
    monkeypatch.setattr(voxmint.make.instances.checking, "check_instances", raising(AssertionError("called")))
    words = [*INSTANCES, *given] if given[0] != "--table-voxel-size" else [*INSTANCES[:-2], *given]
    assert main(words) == 1
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--crop", "8,8,8", "--crop-nm", "9,9,9"], "--crop, --crop-nm"),
        (["--crop", "8,8,8.5"], "--crop-nm"),
        (["--ids", "1,two"], "--ids"),
        (["--box-nm", "1,2,3,4,5"], "not six numbers"),
        (["--box-nm", "1,2,3,4,5,x"], "--box-nm"),
        (["--box-nm", "1,2,3,4,2,6"], "start < stop"),
        (["--sample-by", "stratified"], "--stratify-by: "),
        (["--crop", "8,-1,8"], "--crop: "),
        (["--crop-nm", "8", "-1", "8"], "--crop-nm: "),
        (["--scenarios", "0"], "--scenarios: "),
        (["--split", "train=1"], "at least two splits"),
        (["--split", "train=0.8,test"], "--split"),
        (["--split", "train=0.8,test=x"], "--split"),
        (["--split", "train=0.8,test=0"], "--split: "),
        (["--count", "0"], "--count: "),
    ],
)
def test_what_no_recipe_can_be_is_refused_before_a_layer_is_opened(monkeypatch, capsys, given, word) -> None:
    """Two sizes, broken voxels, ids, boxes and shares are refused, and the flag or field is named."""
    monkeypatch.setattr(voxmint.make.instances, "prepare_instances", raising(AssertionError("called")))
    assert main(["instances", "make", *INSTANCES[2:], "--out", "out", *given]) == 1
    assert word in capsys.readouterr().err


def test_rows_that_are_left_out_are_told(monkeypatch, capsys) -> None:
    """Rows dropped from the table and by splits stand with their number and reason; reasons of none do not."""
    table = {"rows": 1200, "drawn": 7, "dropped": {"outside box_nm": 3, "without a point": 0}}
    job = SimpleNamespace(report={"table": table, "splits": {"left_out": {"crop in two splits": 1}}})
    counts = {
        "instances": 6,
        "chunks": 5,
        "requests": 5,
        "bytes": 2_500_000,
        "stored_bytes": 10**6,
        "sampled_chunks": 5,
    }
    job.demand = lambda _: {**counts, "counted": "exactly", "chunks_per_second": 0, "unread_chunks": 0}
    monkeypatch.setattr(voxmint.make.instances, "prepare_instances", lambda *_, **__: job)
    results = {"train": SimpleNamespace(**RUN), "test": SimpleNamespace(**RUN)}
    monkeypatch.setattr(voxmint.make.instances, "make_instances", lambda *_, **__: results)
    assert main(["instances", "make", *INSTANCES[2:], "--out", "out", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "1,200 in the table, 7 drawn, 3 outside box_nm, 1 crop in two splits\n" in out
    assert "without a point" not in out
    assert [int(line.split()[1]) for line in out.splitlines() if line.startswith(("instances", "chunks"))] == [6, 5]
    assert "2.5 MB" in out
    assert "\ntrain\nthe plan\ndry run" in out
    assert "\ntest\nthe plan\ndry run" in out
