"""`voxmint recipe show|diff|schema`, presets, and shapes and lists of numbers as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from voxmint.cli import main
from voxmint.cli.lists import apart
from voxmint.instances.recipe import InstanceRecipe
from voxmint.pairs.presets import PRESETS, preset
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe
from voxmint.recipe import Recipe
from voxmint.templates.bank import TemplateBank
from voxmint.torch import PairDataset

FEW = ["--min-templates", "3", "--max-templates", "5", "--workers", "1"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small bank."""
    folder = tmp_path_factory.mktemp("bank")
    assert main(["templates", "procedural", "--out", str(folder), "--count", "4"]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def thick(bank: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of NIfTI files by the preset for thick slices, of a small shape."""
    out = tmp_path_factory.mktemp("thick") / "set"
    flags = ["--preset", "anisotropic", "--shape", "24,20,16", "--format", "nifti", "--templates", bank, *FEW]
    assert main(["pairs", "make", "--out", str(out), "--count", "2", *flags]) == 0
    return out


def fields_of(path: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((path / "recipe.yaml").read_text())["recipe"]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.nii.gz")}


def test_a_shape_is_a_cube_or_not(bank: str, tmp_path: Path) -> None:
    """Three numbers with commas are a shape; three equal ones make the bytes that --side makes."""
    for name, words in {
        "other": ["--shape", "24,17,16"],
        "cube": ["--shape=17,17,17"],
        "side": ["--side", "17"],
    }.items():
        words += ["--count", "1", "--templates", bank, *FEW]
        assert main(["pairs", "make", "--out", str(tmp_path / name), *words]) == 0
    for name in ("recipe.yaml", "records.jsonl", "train_data.hdf5", "manifest.jsonl"):
        assert (tmp_path / "cube" / name).read_bytes() == (tmp_path / "side" / name).read_bytes()
    image, _, labels = PairDataset(tmp_path / "other")[0]
    assert image.shape[1:] == labels.shape[1:] == (24, 17, 16)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--side", "64", "--shape", "64,64,32"], ["--side 64", "--shape 64,64,32"]),
        (["--shape", "64,32"], ["--shape", "3"]),
        (["--shape", "64,32,8"], ["shape", "16"]),
        (["--shape", "64,32,x"], ["shape", "'x'"]),
        (["--preset", "nothing"], ["--preset", "anisotropic"]),
    ],
)
def test_wrong_shapes_and_presets_are_named(
    words: list[str], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the flags, and nothing is written."""
    assert main(["pairs", "make", "--out", str(tmp_path / "out"), "--count", "1", *words]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in told), said
    assert not (tmp_path / "out").exists()


def test_lists_are_taken_apart_where_a_flag_takes_several_numbers() -> None:
    """Other flags, single numbers, and other commands' values are left as they are."""
    words = ["pairs", "make", "--out", "a,b", "--scale=1,2", "--side", "32", "--foreground.noise-spacing", "8, 16"]
    spacing = "--foreground.noise-spacing"
    assert apart(words) == [*words[:4], "--scale", "1", "2", "--side", "32", spacing, "8", spacing, "16"]
    assert apart(["pairs", "make", "--rotation", "-20,20"])[2:] == ["--rotation", "-20", "20"]
    assert apart(["pairs", "make", "--rotation", "-20", "20"])[2:] == ["--rotation", "-20", "20"]
    assert apart(["pairs", "make", "--rotation"])[2:] == ["--rotation"]
    assert apart(["pairs", "make", "--shape", "32 32 16"])[2:] == ["--shape", "32", "32", "16"]
    assert apart(["pairs", "make", spacing, "8", "16", "--side", "32"])[2:] == [
        spacing,
        "8",
        spacing,
        "16",
        *words[5:7],
    ]
    assert apart(["pairs", "make", spacing, "8,,16"])[2:] == [spacing, "8", spacing, "", spacing, "16"]
    assert apart(["instances", "make", "--crop", "32 32 16", "--ids=1", "2"])[2:] == [
        "--crop",
        "32,32,16",
        "--ids",
        "1,2",
    ]
    assert apart(["instances", "make", "--crop-nm", "1,2,3"])[2:] == ["--crop-nm", "1,2,3"]
    assert apart([]) == []


def test_a_preset_is_recorded_in_full_under_flags_and_file(bank: str, thick: Path, tmp_path: Path) -> None:
    """Fields of the preset, over them those of --recipe, over both the flags: recipe.yaml has what came of it."""
    expected = preset("anisotropic", shape=(24, 20, 16), min_templates=3, max_templates=5)
    assert PairRecipe.from_dict(fields_of(thick)) == expected
    (tmp_path / "part.yaml").write_text("{side: 16, view: {artifacts: {thick_slices_probability: 1}}}")
    words = ["--recipe", str(tmp_path / "part.yaml"), "--view.artifacts.thick-slices-axes", "1", "--templates", bank]
    out = tmp_path / "out"
    assert main(["pairs", "make", "--out", str(out), "--count", "1", "--preset", "anisotropic", *words, *FEW]) == 0
    artifacts = PairRecipe.from_dict(fields_of(out)).view.artifacts
    assert (fields_of(out)["side"], fields_of(out).get("shape")) == (16, None)
    assert (artifacts.thick_slices_probability, artifacts.thick_slices_axes) == (1, (1,))
    assert artifacts.low_resolution_per_axis


def test_a_preset_beside_the_recipe_of_a_data_set_is_refused(
    thick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both state every field."""
    given = ["--recipe", str(thick / "recipe.yaml"), "--preset", "microscopy"]
    assert main(["pairs", "make", "--out", str(tmp_path / "out"), *given]) == 1
    assert "--recipe and --preset microscopy" in capsys.readouterr().err


def test_another_size_than_a_recipe_records_is_told(thick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A side goes over a recorded shape, and fields that the recipe leaves out are told with their defaults."""
    given = ["--recipe", str(thick / "recipe.yaml"), "--side", "16", "--voxel-size", "1,1,1", "--dry-run"]
    assert main(["pairs", "make", "--out", str(thick.parent / "other"), *given]) == 0
    lines = [line.partition(", where") for line in capsys.readouterr().out.splitlines()]
    said = {line[0]: line[2] for line in lines if line[1]}
    assert said["--side    16"].endswith("has [24, 20, 16]")
    assert said["--voxel-size [1.0, 1.0, 1.0]"].endswith("has [1.0, 1.0, 2.5]")


def test_the_voxel_size_is_in_every_affine_and_the_stages_make_the_same(bank: str, thick: Path, tmp_path: Path) -> None:
    """Labels and views state 1 x 1 x 2.5 mm, made in one go or by stage; what is damaged is made again with it."""
    for image in map(nibabel.load, thick.rglob("*.nii.gz")):
        np.testing.assert_array_equal(image.affine, np.diag([1, 1, 2.5, 1]))
        assert image.shape == (24, 20, 16)
    stage = ["--preset", "anisotropic", "--workers", "1"]
    labels, views = str(tmp_path / "labels"), str(tmp_path / "views")
    shape = ["--shape", "24,20,16", "--min-templates", "3", "--max-templates", "5"]
    assert main(["pairs", "ensembles", "--out", labels, "--count", "2", "--templates", bank, *shape, *stage]) == 0
    assert main(["pairs", "views", "--ensembles", labels, "--out", views, *stage]) == 0
    assert contents(tmp_path) == contents(thick)
    next((tmp_path / "views/view1").glob("*.nii.gz")).write_bytes(b"damaged")
    assert main(["repair", views, "--workers", "1"]) == 0
    assert contents(tmp_path) == contents(thick)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_shown_and_can_be_given_again(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shown has every field of every recipe within, and read again it is the preset."""
    assert main(["recipe", "show", name]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == preset(name).model_dump(mode="json")
    (tmp_path / "shown.yaml").write_text(text)
    assert main(["recipe", "diff", str(tmp_path / "shown.yaml"), name]) == 0
    assert capsys.readouterr().out == ""
    assert PairRecipe.from_yaml(tmp_path / "shown.yaml") == preset(name)


def test_the_published_preset_is_the_defaults() -> None:
    """Nothing of it is another recipe than that of no preset."""
    assert preset("published") == PairRecipe()


def test_data_sets_are_shown_with_all_defaults_and_compared(
    thick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what their recipe.yaml leaves out; of two, seed and count are compared too, but not where inputs lie."""
    assert main(["recipe", "show", str(thick)]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["recipe"].keys() == PairRecipe.model_fields.keys()
    assert shown["seed"] == 0
    shutil.copytree(thick, tmp_path / "copy")
    about = yaml.safe_load((thick / "recipe.yaml").read_text())
    about["templates"]["address"] = "elsewhere"
    (tmp_path / "copy/recipe.yaml").write_text(yaml.safe_dump(about))
    assert main(["recipe", "diff", str(thick), str(tmp_path / "copy")]) == 0
    about["seed"], about["recipe"]["view"]["artifacts"]["gamma_probability"] = 5, 0.25
    (tmp_path / "copy/recipe.yaml").write_text(yaml.safe_dump(about))
    capsys.readouterr()
    assert main(["recipe", "diff", str(thick), str(tmp_path / "copy/recipe.yaml")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "seed: 0 -> 5",
        "recipe.view.artifacts.gamma_probability: 0.5 -> 0.25",
    ]
    assert main(["recipe", "diff", "anisotropic", str(thick)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "shape: [160, 160, 64] -> [24, 20, 16]",
        "min_templates: 20 -> 3",
        "max_templates: 40 -> 5",
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{}", PairRecipe),
        ("side: 32", PairRecipe),
        ("crop_vx: [8, 8, 4]", InstanceRecipe),
        ("mean: [1, 2]", ViewRecipe),
    ],
)
def test_fields_alone_are_shown_as_what_has_them(
    text: str, kind: type[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fields of pairs, of views or of instances, each with the rest of its own."""
    (tmp_path / "fields.yaml").write_text(text)
    assert main(["recipe", "show", str(tmp_path / "fields.yaml")]) == 0
    assert yaml.safe_load(capsys.readouterr().out).keys() == kind.model_fields.keys()


@pytest.mark.parametrize("text", ["sides: 32", "side: 8", "- 1"])
def test_what_is_no_recipe_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown field, an impossible value, no fields at all, and no file."""
    (tmp_path / "fields.yaml").write_text(text)
    assert main(["recipe", "diff", "published", str(tmp_path / "fields.yaml")]) == 1
    assert "fields.yaml" in capsys.readouterr().err
    assert main(["recipe", "show", str(tmp_path / "none.yaml")]) == 1
    assert "a preset (published" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "kind"), [("pairs", PairRecipe), ("instances", InstanceRecipe)])
def test_the_schema_describes_every_field(name: str, kind: type[Recipe], capsys: pytest.CaptureFixture[str]) -> None:
    """JSON schema, each field of each recipe within with its meaning; inherited ones too."""
    assert main(["recipe", "schema", name]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"].keys() == kind.model_fields.keys()
    for about in (schema, *schema["$defs"].values()):
        assert all(field["description"] for field in about["properties"].values())
    if kind is PairRecipe:
        assert schema["properties"]["side"]["description"] == EnsembleRecipe.meanings()["side"]


def test_presets_make_what_they_say(bank: str) -> None:
    """Of microscopy, volumes without a foreground; of thick slices, views that vary less along the slices' axis."""
    from voxmint.pairs.sampler import PairSampler

    templates = TemplateBank.open(bank)
    small = PairSampler(preset("microscopy", side=24), templates)[0]
    assert small.record["ensemble"]["foreground"] is None
    artifacts = {"thick_slices_probability": 1, "thick_slices_axes": [2], "thick_slices_thickness": [4, 4]}
    recipes = [PairRecipe(side=24, view={"artifacts": fields}) for fields in ({}, artifacts)]
    plain, sliced = (PairSampler(recipe, templates)[1] for recipe in recipes)
    np.testing.assert_array_equal(plain.arrays["seg"], sliced.arrays["seg"])
    change = [[np.abs(np.diff(s.arrays["img"][0].astype(float), axis=axis)).mean() for axis in (1, 2)]
              for s in (plain, sliced)]  # fmt: skip
    assert change[1][1] / change[1][0] < 0.7 * change[0][1] / change[0][0]
