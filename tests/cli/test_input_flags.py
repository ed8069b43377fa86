"""What layers and table are, from flags and from YAML; errors name the flag."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from voxmint.cli.inputs import Common
from voxmint.errors import RecipeError
from voxmint.instances.table.columns import ColumnMap

GIVEN = {"source": "a", "target": "b", "table": "c.csv"}


def test_a_file_says_what_flags_say(tmp_path: Path) -> None:
    """Every input, as a flag and in YAML with lists and mappings, comes to the same; flags go over the file."""
    flags = Common(**GIVEN, table_voxel_size="16,16,30", columns="h01", column=["centre=cx,cy,cz", "target_id=cleft",
                   'pre="a,b",y,z', "post="], axes="zyx", reader="tensorstore", secrets=Path("s.json"),
                   source_dataset="d", source_voxel_size="8,8,33", source_mip=2, target_scale_nm="4,4,40",
                   source_offset="1,-2,3", target_axes="czyx", cache_bytes=7, concurrency=8, attempts=9,
                   patience=10)  # fmt: skip
    path = tmp_path / "inputs.yaml"
    path.write_text(yaml.safe_dump({
        **GIVEN, "table-voxel-size": [16, 16, 30], "columns": "h01", "axes": "zyx", "reader": "tensorstore",
        "column": {"centre": ["cx", "cy", "cz"], "target_id": "cleft", "pre": ["a,b", "y", "z"], "post": []},
        "secrets": "s.json", "source_dataset": "d", "source_voxel_size": [8, 8, 33], "source_mip": 2,
        "target_scale_nm": [4, 4, 40], "source_offset": [1, -2, 3], "target_axes": "czyx", "cache_bytes": 7,
        "concurrency": 8, "attempts": 9, "patience": 10}))  # fmt: skip
    read = flags.read()
    assert Common(inputs=path).read() == read
    assert read.columns == ColumnMap(voxel_size_nm=(16, 16, 30), preset="h01", axes="zyx", centre=["cx", "cy", "cz"],
                                     target_id=["cleft"], pre=["a,b", "y", "z"], post=[])  # fmt: skip
    assert read.options["source"] == {"dataset": "d", "voxel_size_nm": (8, 8, 33), "mip": 2, "offset": (1, -2, 3),
                                      "cache_bytes": 7, "concurrency": 8, "attempts": 9}  # fmt: skip
    assert read.options["target"]["scale_nm"] == (4, 4, 40)
    over = Common(inputs=path, source="other", source_mip=0).read()
    assert (over.source, over.options["source"]["mip"], over.target) == ("other", 0, "b")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"column": ["centre"]}, "--column"),
        ({"column": ["middle=x,y,z"]}, "--column"),
        ({"column": ["centre=x", "centre=y"]}, "named twice"),
        ({"source_offset": "1.5,2,3"}, "--source-offset"),
        ({"target_scale_nm": "8,8"}, "--target-scale-nm"),
        ({"table_voxel_size": "8,8,-3"}, "voxel_size_nm"),
    ],
    ids=str,
)
def test_a_wrong_flag_is_named(values: dict[str, object], says: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(RecipeError) as caught:
        Common(**GIVEN, **values).read()  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["sourc: a", "source_mip: fine", "source_mip: 1.5", "column: [centre]", "source: {a: b}", "patience: soon", "- a",
     "source_mip: true", "inputs: other.yaml"],
)  # fmt: skip
def test_a_wrong_file_is_named_with_the_field(tmp_path: Path, text: str) -> None:
    """An unknown field, or a value of another kind."""
    path = tmp_path / "inputs.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Common(**GIVEN, inputs=path).read()
    assert str(path) in str(caught.value)
