"""CAVE tables through caveclient, against a server that gives a limited number of rows in no order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cave_server import SIZE, CaveServer

from voxmint.errors import InputError, MissingExtraError
from voxmint.instances.table import cave
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable

pytest.importorskip("caveclient", reason="needs voxmint[cave]")


def synapses(count: int) -> pa.Table:
    """Return a table as CAVE's, ids far apart here and close there, in no order."""
    stream = np.random.Generator(np.random.Philox(key=3))
    ids = np.concatenate([np.arange(count // 2) + 5, 10**6 + 10 * np.arange(count - count // 2)])
    points = stream.integers(0, 1000, (count, 3))
    columns = {"id": stream.permutation(ids)}
    for role in ("ctr", "pre", "post"):
        columns |= {f"{role}_pt_position_{axis}": points[:, n] for n, axis in enumerate("xyz")}
    columns |= {"pre_pt_root_id": ids + 7, "post_pt_root_id": ids + 9, "kind": np.arange(count) % 3}
    return pa.table(columns)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CaveServer]:
    """A server of 900 rows that gives 400 at the most, asked for 250 at a time."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cave, "PAGE", 250)
    running = CaveServer(synapses(900), 400)
    yield running
    running.close()


def address(server: CaveServer, version: str = "?version=3&") -> str:
    """Return the address of the table."""
    return f"cave://toy/synapses{version}server={server.url}"


def test_all_rows_come_in_the_order_of_their_ids(server: CaveServer) -> None:
    """Whatever order and limit the server has; unit, names and version are the table's own."""
    table = InstanceTable(address(server), ColumnMap())
    batches = list(table.batches("kind"))
    ids = np.concatenate([batch.rows.id for batch in batches])
    rows = np.concatenate([batch.rows.row for batch in batches])
    assert np.array_equal(ids, np.sort(server.table["id"].to_numpy()))
    assert np.array_equal(rows, np.arange(900))
    where = {int(one): n for n, one in enumerate(server.table["id"].to_numpy())}
    place = [where[int(one)] for one in ids[:50]]
    x = server.table["ctr_pt_position_x"].to_numpy()[place] * SIZE[0]
    assert np.array_equal(batches[0].rows.centre_nm[:50, 0], x[: len(batches[0].rows)][:50])
    assert table.voxel_size_nm == SIZE
    assert table.fetched is not None
    assert table.fetched.about == {"cave": "cave://toy/synapses?version=3", "server": server.url, "rows": 900,
                                   "materialization_version": 3}  # fmt: skip
    assert max(query["limit"] for query in server.queries) == 250


def test_a_limit_below_the_page_loses_no_row(server: CaveServer) -> None:
    """A server that gives fewer rows than were asked for is found out by the count of the table."""
    server.limit = 150
    assert sum(len(batch.rows) for batch in InstanceTable(address(server), ColumnMap()).batches()) == 900


def test_rows_that_are_not_given_are_missed(server: CaveServer) -> None:
    """A table that is said to have more rows than come is refused."""
    server.claimed = 901
    with pytest.raises(InputError, match="does not give all rows"):
        InstanceTable(address(server), ColumnMap())


def test_the_version_must_be_pinned(server: CaveServer) -> None:
    """Without one the error names the newest; another than the table's, or another unit, is an error."""
    with pytest.raises(InputError, match="changes as it is proofread") as caught:
        InstanceTable(address(server, "?"), ColumnMap())
    assert "version=3" in str(caught.value)
    with pytest.raises(InputError, match="is missing"):
        InstanceTable(address(server, "?version=9&"), ColumnMap(), patience=2)
    with pytest.raises(InputError, match="not the table's own"):
        InstanceTable(address(server), ColumnMap(voxel_size_nm=(8, 8, 40)))
    for wrong in ("cave://toy", "cave://toy/a/b?version=1", "cave://toy/a?version=x", "cave://u:p@toy/a?version=1",
                  "cave://toy/a?version=1&token=abcdef", "cave://toy/a?version=1&server=ftp://x"):  # fmt: skip
        with pytest.raises(InputError) as caught:
            InstanceTable(wrong, ColumnMap())
        assert "abcdef" not in str(caught.value)


def test_the_token_is_sent_and_never_shown(server: CaveServer, tmp_path: Path) -> None:
    """That of the secrets file; a refusal says what to give."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"token": "0123456789abcdef"}))
    InstanceTable(address(server), ColumnMap(), secrets=secrets)
    assert "Bearer 0123456789abcdef" in server.tokens
    server.status = 403
    with pytest.raises(InputError, match="forbidden") as caught:
        InstanceTable(address(server), ColumnMap(), secrets=secrets, patience=2)
    assert "--secrets" in str(caught.value)
    assert "0123456789abcdef" not in str(caught.value)


def test_an_answer_without_end_is_refused(server: CaveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept to a bound."""
    monkeypatch.setattr(cave, "_MOST_BYTES", 2000)
    with pytest.raises(InputError, match="more than 2000 bytes"):
        InstanceTable(address(server), ColumnMap(), patience=2)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where caveclient is not installed."""
    monkeypatch.setitem(__import__("sys").modules, "caveclient", None)
    with pytest.raises(MissingExtraError) as caught:
        InstanceTable("cave://toy/a?version=1", ColumnMap())
    assert "voxmint[cave]" in str(caught.value)
