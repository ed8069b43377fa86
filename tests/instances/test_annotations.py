"""Neuroglancer's precomputed annotations as a table: points, lines, with and without spatial index, sharded or not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmint.errors import InputError
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable, Rows

sys.path.append(str(Path(__file__).parents[1] / "volumes"))
from servers import FaultyServer

tensorstore = pytest.importorskip("tensorstore")
COUNT, SIZE = 40, np.array([4.0, 4.0, 40.0])
SHARDING = {"@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 0, "minishard_bits": 1, "shard_bits": 1,
            "hash": "identity", "minishard_index_encoding": "gzip", "data_encoding": "gzip"}  # fmt: skip
IDS = 10 * np.arange(COUNT, dtype=np.uint64)[::-1] + 3


def ends(kind: str) -> Any:
    """Return the points of all annotations, (n, 1 or 2, 3)."""
    stream = np.random.Generator(np.random.Philox(key=9))
    return (stream.random((COUNT, 1 if kind == "POINT" else 2, 3)) * 100).astype("<f4")


def write(folder: Path, kind: str, *, spatial: bool = True, sharded: bool = False) -> Path:
    """Write annotations with a property of two bytes and one of four, and one relationship."""
    record = np.dtype([("ends", "<f4", (1 if kind == "POINT" else 2, 3)), ("score", "<f4"), ("kind", "<u2"),
                       ("none", "V2")])  # fmt: skip
    records = np.zeros(COUNT, record)
    records["ends"], records["score"], records["kind"] = ends(kind), np.arange(COUNT) / 2, np.arange(COUNT) % 3

    def listed(which: Any) -> bytes:
        return len(which).to_bytes(8, "little") + records[which].tobytes() + IDS[which].astype("<u8").tobytes()

    every = np.arange(COUNT)
    # a line that reaches into both cells of the second level is listed in both
    half = records["ends"][:, :, 0] < 50
    levels = {"spatial0": {"0_0_0": every[::2]},
              "spatial1": {"0_0_0": every[1::2][half[1::2].any(axis=1)],
                           "1_0_0": every[1::2][(~half[1::2]).any(axis=1)]}}  # fmt: skip
    related = {str(7 + n): every[n::4] for n in range(4)}
    objects = {"by_id": {str(int(one)): records[n].tobytes() + (1).to_bytes(4, "little") + (7 + n % 4).to_bytes(
        8, "little") for n, one in enumerate(IDS)}}  # fmt: skip
    objects["cleft"] = {name: listed(which) for name, which in related.items()}
    if spatial:
        objects |= {key: {name: listed(which) for name, which in cells.items()} for key, cells in levels.items()}
    folder.mkdir()
    for key, inside in objects.items():
        (folder / key).mkdir()
        if not sharded:
            for name, data in inside.items():
                (folder / key / name).write_bytes(data)
            continue
        spec = {"driver": "neuroglancer_uint64_sharded", "base": f"file://{folder / key}/", "metadata": SHARDING}
        store = tensorstore.KvStore.open(spec).result()
        for name, data in inside.items():  # cells along x alone: the code of the place is its first number
            store.write(int(name.split("_")[0]).to_bytes(8, "big"), data).result()
    with_shards = {"sharding": SHARDING} if sharded else {}
    info = {"@type": "neuroglancer_annotations_v1", "annotation_type": kind, "by_id": {"key": "by_id", **with_shards},
            "dimensions": {"x": [4e-9, "m"], "y": [4e-9, "m"], "z": [4e-8, "m"]},
            "lower_bound": [0, 0, 0], "upper_bound": [100, 100, 100],
            "properties": [{"id": "kind", "type": "uint16"}, {"id": "score", "type": "float32"}],
            "relationships": [{"id": "cleft", "key": "cleft", **with_shards}],
            "spatial": [{"key": f"spatial{n}", "grid_shape": [n + 1, 1, 1], "chunk_size": [100 / (n + 1), 100, 100],
                         "limit": COUNT, **with_shards} for n in range(2 if spatial else 0)]}  # fmt: skip
    (folder / "info").write_text(json.dumps(info))
    return folder


def rows_of(source: str | Path, **columns: Any) -> Rows:
    """Read all rows, of which there is one batch."""
    (batch,) = InstanceTable(source, ColumnMap(**columns)).batches("kind")
    return batch.rows


@pytest.mark.parametrize("kind", ["POINT", "LINE"])
@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("sharded", [True, False])
def test_annotations_are_rows_in_the_order_of_their_ids(
    tmp_path: Path, kind: str, spatial: bool, sharded: bool
) -> None:
    """However they are stored; the unit is their own; a relationship that is named is a column."""
    rows = rows_of(write(tmp_path / "a", kind, spatial=spatial, sharded=sharded), target_id=["cleft"])
    points = ends(kind)[::-1].astype(np.float64)
    assert np.array_equal(rows.id, IDS[::-1])
    assert np.allclose(rows.centre_nm, points.mean(axis=1) * SIZE, atol=1e-5)
    if kind == "LINE":
        assert np.allclose(rows.pre_nm, points[:, 0] * SIZE, atol=1e-5)
        assert np.allclose(rows.post_nm, points[:, 1] * SIZE, atol=1e-5)
    assert np.array_equal(rows.target_id, 7 + np.arange(COUNT)[::-1] % 4)


def test_over_http_the_cells_are_asked_for(tmp_path: Path) -> None:
    """A spatial index needs no list of names; without one the error says so."""
    write(tmp_path / "a", "LINE")
    write(tmp_path / "b", "LINE", spatial=False)
    server = FaultyServer(tmp_path)
    try:
        assert np.array_equal(rows_of(f"{server.url}/a").id, IDS[::-1])
        with pytest.raises(InputError, match="cannot be listed over HTTP"):
            rows_of(f"{server.url}/b")
        with pytest.raises(InputError, match="missing"):
            rows_of(f"{server.url}/c")
    finally:
        server.close()


@pytest.mark.parametrize(
    "change",
    [
        {"annotation_type": "POLYLINE"}, {"dimensions": {"x": [1, "m"]}}, {"properties": [{"id": "a", "type": "what"}]},
        {"spatial": [{"key": "../a", "grid_shape": [1, 1, 1]}]}, {"spatial": [{"key": "spatial0", "grid_shape": [0]}]},
        {"properties": []}, {"dimensions": 7},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_metadata_are_an_error_of_ours(tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever they say, the error names the folder."""
    folder = write(tmp_path / "a", "POINT")
    info = json.loads((folder / "info").read_text())
    (folder / "info").write_text(json.dumps({**info, **change}))
    with pytest.raises(InputError, match="/a"):
        rows_of(folder)


def test_a_cut_list_and_two_of_one_id_are_refused(tmp_path: Path) -> None:
    """Nothing is left out in silence."""
    folder = write(tmp_path / "a", "POINT")
    cell = folder / "spatial0" / "0_0_0"
    whole = cell.read_bytes()
    cell.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="cut or damaged"):
        rows_of(folder)
    cell.write_bytes(whole[:-8] + whole[-16:-8])
    with pytest.raises(InputError, match="share an id"):
        rows_of(folder)
    cell.write_bytes(whole)
    with pytest.raises(InputError, match="not the table's own"):
        rows_of(folder, voxel_size_nm=(8, 8, 40))
