"""Tables: every format and spelling of a point gives the same instances; what is wrong is told by row and column."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmint.errors import InputError, VoxmintError
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import Instance, InstanceTable

SIZE = (8.0, 8.0, 33.0)
POINTS = {"": (10, 20, 30), "pre": (8, 20, 30), "post": (14, 21, 31)}
NM = {"": (80.0, 160.0, 990.0), "pre": (64.0, 160.0, 990.0), "post": (112.0, 168.0, 1023.0)}


def read(source: Any, **columns: Any) -> list[Instance]:
    """Read all instances of a table."""
    table = InstanceTable(source, ColumnMap(**{"voxel_size_nm": SIZE, **columns}))
    return [instance for batch in table.batches() for instance in batch.rows.instances()]


def split_columns(pattern: str, role: str) -> dict[str, list[int]]:
    return {pattern.format(axis): [value] for axis, value in zip("xyz", POINTS[role], strict=True)}


def cave_table(kind: str) -> pa.Table:
    """Return one row with CAVE's names, its points written in one of many ways."""
    columns: dict[str, Any] = {"id": [77], "pre_pt_root_id": [720575940000000001], "post_pt_root_id": [0]}
    for role, name in (("", "ctr"), ("pre", "pre"), ("post", "post")):
        x, y, z = POINTS[role]
        column = f"{name}_pt_position"
        if kind == "split":
            columns.update(split_columns(f"{column}_{{}}", role))
        elif kind == "list":
            columns[column] = [[x, y, z]]
        elif kind == "float list":
            columns[column] = [[float(x), float(y), float(z)]]
        elif kind == "fixed list":
            columns[column] = pa.array([[x, y, z]], pa.list_(pa.int32(), 3))
        elif kind == "struct":
            columns[column] = [{"z": z, "x": x, "y": y}]
        else:
            columns[column] = [kind.format(x=x, y=y, z=z)]
    return pa.table(columns)


TEXTS = [
    "[{x} {y} {z}]",
    "[ {x}  {y}   {z} ]",
    "[{x}, {y}, {z}]",
    "{x},{y},{z}",
    "({x}; {y}; {z})",
    "{x}.0 {y}.0 {z}e0",
]
OBJECTS = ['{{"x": {x}, "y": {y}, "z": {z}}}', "{{z:{z}, y:{y}, x:{x}}}", "point({{srid:9157, x:{x}, y:{y}, z:{z}}})"]


NESTED = ["list", "float list", "fixed list", "struct"]
FLAT = ["split", *TEXTS, *OBJECTS]


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        *((ending, kind) for ending in ("csv", "csv.gz", "tsv") for kind in FLAT),
        *((ending, kind) for ending in ("parquet", "feather", "arrow", "jsonl") for kind in (*FLAT, *NESTED)),
    ],
)
def test_every_format_and_spelling_gives_the_same_instance(tmp_path: Path, ending: str, kind: str) -> None:
    """A row of a CAVE table is one instance in nm, whatever wrote it."""
    path = write(tmp_path / f"table.{ending}", cave_table(kind))
    expected = Instance(77, 0, NM[""], NM["pre"], NM["post"], 720575940000000001, None)
    assert read(path, preset="cave") == [expected]


def write(path: Path, table: pa.Table) -> Path:
    """Write a table in the format of the file's ending."""
    name = path.name
    if name.endswith((".csv", ".csv.gz", ".tsv")):
        options = pyarrow.csv.WriteOptions(delimiter="\t" if name.endswith("tsv") else ",")
        with pa.output_stream(str(path), compression="gzip" if name.endswith("gz") else None) as stream:
            pyarrow.csv.write_csv(table, stream, options)
    elif name.endswith(".parquet"):
        pq.write_table(table, path)
    elif name.endswith(".feather"):
        pyarrow.feather.write_feather(table, path)
    elif name.endswith(".arrow"):
        with pa.ipc.new_stream(path, table.schema) as sink:
            sink.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("preset", "columns"),
    [
        (
            "default",
            {**split_columns("{}", ""), **split_columns("pre_pt_{}", "pre"), **split_columns("post_pt_{}", "post")},
        ),
        (
            "h01",
            {**split_columns("{}", ""), **split_columns("pre_pt_{}", "pre"), **split_columns("post_pt_{}", "post")},
        ),
        (
            "h01",
            {
                "location": [dict(zip("xyz", POINTS[""], strict=True))],
                "pre_synaptic_site": [{"centroid": dict(zip("xyz", map(str, POINTS["pre"]), strict=True))}],
                "post_synaptic_partner": [{"centroid": dict(zip("xyz", POINTS["post"], strict=True))}],
            },
        ),
        ("flywire", {**split_columns("{}", ""), **split_columns("pre_{}", "pre"), **split_columns("post_{}", "post")}),
        ("neuprint", {"location": [POINTS[""]], **split_columns("{}_pre", "pre"), **split_columns("{}_post", "post")}),
    ],
)
def test_presets_find_their_columns(tmp_path: Path, preset: str, columns: dict[str, Any]) -> None:
    """Each preset reads the table of its source."""
    path = write(tmp_path / "t.parquet", pa.table(columns))
    assert read(path, preset=preset) == [Instance(0, 0, NM[""], NM["pre"], NM["post"])]


def test_nested_ids_of_json_lines_are_read(tmp_path: Path) -> None:
    """The H01 export keeps neuron ids inside objects, as text, and leaves some out."""
    rows = [
        {"location": {"x": 1, "y": 2, "z": 3}, "pre_synaptic_site": {"neuron_id": "54"}, "type": 1},
        {"location": {"x": 1, "y": 2, "z": 4}, "pre_synaptic_site": {"neuron_id": None}, "type": 1},
    ]
    path = tmp_path / "export.json.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert [i.pre_neuron_id for i in read(path, preset="h01")] == [54, None]


def test_the_voxel_size_has_no_default(tmp_path: Path) -> None:
    """A file without its unit is refused, and the flag named."""
    path = csv(tmp_path / "a.csv", "x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="unit of the table") as caught:
        InstanceTable(path, ColumnMap())
    assert "--table-voxel-size" in str(caught.value)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate_columns(tmp_path: Path, sign: str) -> None:
    """Whichever stands in the first line, outside quotes; also in a gzipped file."""
    lines = [["x", "y", "z", '"a,b;c"'], ["1", "2", "3", '"4,5"']]
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("\n".join(sign.join(line) for line in lines).encode()))
    (row,) = read(path)
    assert row.centre_nm == tuple(n * size for n, size in zip((1, 2, 3), SIZE, strict=True))


@pytest.mark.parametrize("axes", ["xyz", "zyx", "yzx"])
def test_axes_say_the_order_of_the_numbers(tmp_path: Path, axes: str) -> None:
    """Columns and triples in another order give the same point."""
    numbers = [POINTS[""]["xyz".index(axis)] for axis in axes]
    text = csv(
        tmp_path / "t.csv", "a,b,c,triple\n" + ",".join(map(str, numbers)) + f",{numbers}".replace(", ", " ") + "\n"
    )
    assert read(text, centre=["a", "b", "c"], axes=axes)[0].centre_nm == NM[""]
    assert read(text, centre=["triple"], axes=axes)[0].centre_nm == NM[""]


def test_a_centre_is_halfway_between_pre_and_post_where_there_is_none(tmp_path: Path) -> None:
    """The midpoint stands in, for a missing column and for a missing value; a lone pre point is dropped."""
    header = "x,y,z,pre_pt_x,pre_pt_y,pre_pt_z,post_pt_x,post_pt_y,post_pt_z\n"
    path = csv(tmp_path / "t.csv", header + "5,5,5,0,0,0,2,4,6\n,,,0,0,0,2,4,6\n5,5,5,1,,1,,,\n")
    first, second, third = read(path, voxel_size_nm=(1, 1, 1))
    assert first.centre_nm == (5, 5, 5)
    assert second.centre_nm == (1, 2, 3)
    assert (third.pre_nm, third.post_nm) == (None, None)
    path = csv(tmp_path / "u.csv", header.removeprefix("x,y,z,") + "0,0,0,2,4,6\n")
    assert read(path, voxel_size_nm=(1, 1, 1))[0].centre_nm == (1, 2, 3)


def test_rows_are_numbered_over_parts_in_natural_order(tmp_path: Path) -> None:
    """part-2 comes before part-10, in a folder, by a pattern, and as a list in any order."""
    for number in (10, 2, 1):
        csv(tmp_path / f"part-{number}.csv", f"x,y,z\n{number},0,0\n{number},1,0\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".hidden.csv").write_text("nonsense")
    for source in (tmp_path, str(tmp_path / "*.csv"), [tmp_path / f"part-{n}.csv" for n in (10, 1, 2)]):
        instances = read(source, voxel_size_nm=(1, 1, 1))
        assert [i.centre_nm[0] for i in instances] == [1, 1, 2, 2, 10, 10]
        assert [i.id for i in instances] == [i.row for i in instances] == list(range(6))


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-(10**6), 10**6)] * 3), min_size=1, max_size=8),
    st.sampled_from([8.0, 3.6, 32.745]),
)
def test_nm_is_the_decimal_product(tmp_path_factory: pytest.TempPathFactory, points: list[Any], size: float) -> None:
    """A voxel's corner in nm is the decimal index times size, so that it never falls into the voxel before."""
    from fractions import Fraction

    path = csv(tmp_path_factory.mktemp("t") / "t.csv", "x,y,z\n" + "".join(f"{x},{y},{z}\n" for x, y, z in points))
    for instance, point in zip(read(path, voxel_size_nm=(size,) * 3), points, strict=True):
        assert [Fraction(str(c)) for c in instance.centre_nm] == [p * Fraction(str(size)) for p in point]


def test_an_instance_survives_json() -> None:
    """to_dict and from_dict are inverse through JSON text."""
    instance = Instance(3, 1, (1.5, 2.0, 3.0), None, (1.0, 2.0, 3.0), 5, None, 9)
    assert Instance.from_dict(json.loads(json.dumps(instance.to_dict()))) == instance


def test_ids_spoilt_by_a_missing_value_are_read(tmp_path: Path) -> None:
    """'54.0' in a column with gaps is 54; -1 and 0 mean no neuron."""
    path = csv(tmp_path / "t.csv", "x,y,z,pre_neuron_id,post_neuron_id\n1,1,1,54.0,-1\n1,1,1,,0\n")
    assert [(i.pre_neuron_id, i.post_neuron_id) for i in read(path)] == [(54, None), (None, None)]


HEAD = "id,x,y,z,pre_neuron_id\n"


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("", {}, ["t.csv", "cannot be read"]),
        (HEAD, {}, ["no rows"]),
        ("id,X,Y,Z\n1,2,3,4\n", {}, ["x, y, z", "X, Y, Z", "did you mean X"]),
        (HEAD + "1,1,1,1,1\n", {"preset": "cave"}, ["ctr_pt_position", "id, x, y, z"]),
        (HEAD + "1,1,1,1,1\n", {"target_id": ["pre_neuron"]}, ["no column pre_neuron", "did you mean pre_neuron_id"]),
        (HEAD + "1,1,1,1,1\n", {"centre": ["x", "y"]}, ["centre is given as 2 columns"]),
        ("x,y,z,x\n1,1,1,1\n", {}, ["more than one column is called x"]),
        (HEAD + "1,1,1,1,1\n2,1,oops,1,1\n", {}, ["column y, row 2", "'oops'"]),
        (HEAD + "1,1,inf,1,1\n", {}, ["infinite", "column y, row 1"]),
        (HEAD + "1,1,1,1,1.5\n", {}, ["column pre_neuron_id, row 1", "1.5"]),
        (HEAD + "1,1,1,1,7.2e17\n", {}, ["7.2e17"]),
        (HEAD + "1,1,1,1,1\nx7,1,1,1,1\n", {"id": ["id"]}, ["column id, row 2", "x7"]),
        (HEAD + "1,1,1,1,1\n,1,1,1,1\n", {"id": ["id"]}, ["no id in column id, row 2", "id: []"]),
        (HEAD + "1,1,1,1\n", {}, ["Expected 5 columns, got 4"]),
        ("x,y,z\n1,1,1\n" + "9" * (3 << 20), {}, ["cannot be read"]),
        ("p\n[1 2 3]\n[1 2]\n", {"centre": ["p"]}, ["text that is no point", "row 2", "[1 2]"]),
        ('p\n"{""x"":1,""z"":2}"\n', {"centre": ["p"]}, ["text that is no point", "row 1"]),
    ],
)
def test_what_is_wrong_with_a_csv_is_told(tmp_path: Path, text: str, columns: dict[str, Any], says: list[str]) -> None:
    """The error names file, column, row and value."""
    path = csv(tmp_path / "t.csv", text)
    with pytest.raises(InputError) as caught:
        read(path, **columns)
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": [1.0, float("inf")], "y": [1, 1], "z": [1, 1]}, "infinite"),
        ({"x": ["a", "b"], "y": [1, 1], "z": [1, 1]}, "'a'"),
        ({"x": [True, False], "y": [1, 1], "z": [1, 1]}, "bool"),
        ({"x": [1, 1], "y": [1, 1], "z": [1, 1], "pre_neuron_id": [2.0**60, 1.0]}, "lose digits"),
        ({"x": [1, 1], "y": [1, 1], "z": [1, 1], "pre_neuron_id": [1.0, 2.0**53]}, "lose digits"),  # or that plus one
        ({"x": [1, 1], "y": [1, 1], "z": [1, 1], "pre_neuron_id": pa.array([1, 2**63], pa.uint64())}, "2\\^63"),
        ({"x": [[1, 2, 3], [1, 2]]}, "no triple"),
        ({"x": [{"a": 1}, {"a": 2}]}, "without x, y, z"),
        ({"x": [1, 2]}, "three numbers"),
    ],
)
def test_what_is_wrong_with_a_parquet_is_told(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    """Values of the wrong kind are refused, never cast."""
    path = write(tmp_path / "t.parquet", pa.table(columns))
    with pytest.raises(InputError, match=says):
        read(path, **({"centre": ["x"]} if len(columns) == 1 else {}))


@pytest.mark.parametrize(
    ("ending", "harm"),
    [
        *((ending, harm) for ending in ("csv.gz", "parquet", "feather") for harm in ("cut", "flipped", "empty")),
        *(("arrow", harm) for harm in ("cut", "empty")),  # a stream of batches carries no checksum to flip
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, ending: str, harm: str) -> None:
    """A cut, flipped or empty file is an error that names it, never fewer rows."""
    rng = np.random.Generator(np.random.Philox(3))
    table = pa.table({axis: rng.integers(0, 10**6, 20_000) for axis in "xyz"})
    path = write(tmp_path / f"t.{ending}", table)
    data = bytearray(path.read_bytes())
    if harm == "cut":
        data = data[: len(data) * 2 // 3]
    elif harm == "flipped":
        # of the footer, or of the checksum at the end
        data[-3 if ending != "csv.gz" else -6] ^= 0x7F
    else:
        data = bytearray()
    path.write_bytes(bytes(data))
    with pytest.raises(VoxmintError) as caught:
        assert len(read(path)) < 0, "damage went unseen"
    assert path.name in str(caught.value)


def test_a_later_part_without_a_column_is_told(tmp_path: Path) -> None:
    """The part is named, not the first one."""
    csv(tmp_path / "a.csv", "x,y,z\n1,1,1\n")
    csv(tmp_path / "b.csv", "x,y\n1,1\n")
    with pytest.raises(InputError, match=r"b\.csv: no column z"):
        read(tmp_path)


def test_no_file_and_mixed_formats_are_told(tmp_path: Path) -> None:
    """An empty folder, an unknown ending, and two formats in one folder are refused."""
    with pytest.raises(InputError, match="no table here"):
        read(tmp_path)
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(InputError, match="not a table by its name"):
        read(tmp_path / "t.xlsx")
    csv(tmp_path / "a.csv", "x,y,z\n1,1,1\n")
    write(tmp_path / "b.parquet", pa.table({"x": [1], "y": [1], "z": [1]}))
    with pytest.raises(InputError, match="different formats"):
        read(tmp_path)


def test_categorical_columns_are_read(tmp_path: Path) -> None:
    """Dictionary-encoded text and numbers are plain values."""
    table = pa.table({"p": pa.array(["[1 2 3]", "[1 2 3]"]).dictionary_encode()})
    instances = read(write(tmp_path / "t.parquet", table), centre=["p"], voxel_size_nm=(1, 1, 1))
    assert [i.centre_nm for i in instances] == [(1, 2, 3)] * 2
