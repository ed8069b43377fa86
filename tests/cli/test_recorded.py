"""`--recipe` with a data set's own recipe.yaml: all that it says counts, and what flags change of it is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from voxmint.cli import main
from voxmint.generators import addresses_from, addresses_within
from voxmint.phantom.layers import make_phantom

SMALL = ["--side", "16", "--min-templates", "3", "--max-templates", "5", "--workers", "1"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a procedural bank, to be read."""
    out = tmp_path_factory.mktemp("grown") / "set"
    assert main(["templates", "procedural", "--out", str(out / "templates"), "--count", "6", "--seed", "4"]) == 0
    bank = ["--templates", str(out / "templates")]
    assert (
        main(["pairs", "make", "--out", str(out), "--count", "3", "--seed", "7", "--val-count", "1", *bank, *SMALL])
        == 0
    )
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_recipe_alone_makes_the_data_set_again(grown: Path, tmp_path: Path) -> None:
    """Nothing but recipe.yaml, copied elsewhere: seed, count, bank and every byte are the same."""
    shutil.copy(grown / "recipe.yaml", tmp_path / "recipe.yaml")
    assert main(["pairs", "make", "--out", str(tmp_path / "out"), "--recipe", str(tmp_path / "recipe.yaml")]) == 0
    assert contents(tmp_path / "out") == contents(grown)


def test_flags_go_over_it_openly(grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another seed, count or field is taken, and told with what the recipe has."""
    flags = ["--recipe", str(grown / "recipe.yaml"), "--seed", "8", "--count", "2", "--side", "24", "--workers", "1"]
    assert main(["pairs", "make", "--out", str(tmp_path / "out"), *flags]) == 0
    told = capsys.readouterr().out
    for flag, now, before in (("--seed", 8, 7), ("--count", 2, 3), ("--side", 24, 16)):
        assert any(
            line.split()[:2] == [flag, f"{now},"] and line.endswith(f"has {before}") for line in told.splitlines()
        )
    about = yaml.safe_load((tmp_path / "out/recipe.yaml").read_text())
    assert (about["seed"], about["count"], about["recipe"]["side"], about["recipe"]["max_templates"]) == (8, 2, 24, 5)
    assert about["format"]["val_count"] == 0, "of another count, as many as of that one by default"


def test_a_bank_of_other_content_is_refused_unless_it_is_named(
    grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where another bank lies at the recorded place, both fingerprints are told; --templates takes it openly."""
    moved = shutil.copytree(grown, tmp_path / "moved")
    shutil.rmtree(moved / "templates")
    assert main(["templates", "procedural", "--out", str(moved / "templates"), "--count", "6", "--seed", "5"]) == 0
    command = [
        "pairs",
        "make",
        "--out",
        str(tmp_path / "out"),
        "--recipe",
        str(moved / "recipe.yaml"),
        "--workers",
        "1",
    ]
    assert main(command) == 1
    assert "not the template bank of the recipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--templates", str(moved / "templates")]) == 0
    assert "another bank than the recipe's" in capsys.readouterr().err


def test_a_recipe_of_another_kind_is_refused(grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That of pairs makes no ensembles and no views: the kinds are told."""
    for command in (["ensembles"], ["views", "--ensembles", str(grown)]):
        out = ["--out", str(tmp_path / "out"), "--recipe", str(grown / "recipe.yaml")]
        assert main(["pairs", *command, *out]) == 1
        assert "another kind of data set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_count_the_flag_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither flag nor recipe says how many: the flag is asked for, before anything is written."""
    assert main(["pairs", "make", "--out", str(tmp_path / "out")]) == 2
    assert "--count" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_instances_take_seed_and_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the recipe of instances the same rows come again; another layer and other rows are told."""
    for seed in ("0", "1"):
        make_phantom(tmp_path / seed, size=(256, 256, 32), instances=9, seed=int(seed))

    def make(phantom: str, out: str, *more: str) -> int:
        layers = [word for name in ("source", "target") for word in (f"--{name}", str(tmp_path / phantom / name))]
        table = ["--table", str(tmp_path / phantom / "materialization.csv"), "--table-voxel-size", "16,16,30"]
        return main(["instances", "make", *layers, *table, "--out", str(tmp_path / out), "--workers", "1", *more])

    assert make("0", "first", "--count", "4", "--crop", "24,24,8", "--seed", "3") == 0
    recipe = ["--recipe", str(tmp_path / "first/recipe.yaml")]
    assert make("0", "again", *recipe) == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "first")
    capsys.readouterr()
    assert make("1", "other", *recipe) == 0
    told = capsys.readouterr().out
    assert "another layer than the recipe's: url" in told
    assert "other rows than the recipe's" in told


def test_only_folders_move_with_a_data_set() -> None:
    """An input in the data set's folder is named from where that is; one elsewhere, or in a bucket, as it was."""
    inputs = {"a": {"address": "/data/set/x/y"}, "b": {"address": "/other/z"}, "c": {"address": "gs://bucket/w"}}
    recorded = addresses_within(inputs, Path("/data/set"))
    assert {name: value["address"] for name, value in recorded.items()} == {
        "a": "x/y", "b": "/other/z", "c": "gs://bucket/w"
    }  # fmt: skip
    assert addresses_from(recorded, Path("/data/set")) == inputs
    assert addresses_from(recorded, Path("/moved"))["a"] == {"address": "/moved/x/y"}
