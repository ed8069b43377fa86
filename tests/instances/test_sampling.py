"""Drawing from tables: the same rows however the table is cut, fairly, and with counts that add up."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmint.errors import InputError, RecipeError
from voxmint.instances.draw import sampling
from voxmint.instances.draw.reservoir import Reservoir, mix
from voxmint.instances.draw.sampling import Draw, SamplingRecipe, draw_instances
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.table.table import InstanceTable, Rows

CHI_SQUARE_LIMIT = 5.0
"""Standard deviations that a statistic may lie from its mean; the seeds are fixed, so that no run fails by chance."""


@cache
def big_table(rows: int = 300_000) -> pa.Table:
    """Return rows crowded in one corner, with unsorted ids and three kinds of unequal number."""
    rng = np.random.Generator(np.random.Philox(5))
    points = (rng.random((rows, 3)) ** 2 * 50_000).astype(np.int64)
    kind = np.searchsorted([0.9, 0.99], rng.random(rows))
    columns: dict[str, Any] = {axis: points[:, i] for i, axis in enumerate("xyz")}
    return pa.table({**columns, "id": rng.permutation(rows) * 3 + 1, "kind": pa.array(["E", "I", "?"]).take(kind)})


def write_parts(folder: Path, table: pa.Table, parts: int, ending: str) -> Path:
    """Write a table as files of nearly equal length."""
    folder.mkdir()
    cuts = np.linspace(0, table.num_rows, parts + 1).astype(int)
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        part = table.slice(start, stop - start)
        path = folder / f"part-{number}.{ending}"
        if ending == "parquet":
            pq.write_table(part, path, row_group_size=50_000)
        elif ending == "feather":
            pyarrow.feather.write_feather(part, path, chunksize=7_001)
        else:
            with pa.output_stream(str(path), compression="gzip" if ending.endswith("gz") else None) as stream:
                pyarrow.csv.write_csv(part, stream)
    return folder


def draw(source: Any, seed: int = 1, inside: Any = None, *, numbered: bool = False, **recipe: Any) -> Draw:
    """Draw from a table in nm, its rows named by the id column or numbered."""
    columns = ColumnMap(voxel_size_nm=(1, 1, 1), **({} if numbered else {"id": ("id",)}))
    return draw_instances(InstanceTable(source, columns), SamplingRecipe(**recipe), seed, inside)


METHODS: list[dict[str, Any]] = [
    {"method": "uniform"},
    {"method": "stratified", "stratify_by": "kind"},
    {"method": "density", "cell_nm": (5_000, 5_000, 5_000)},
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the same table as many files of many formats."""
    root = tmp_path_factory.mktemp("tables")
    cuts = [("csv", 1), ("csv", 3), ("csv", 7), ("csv.gz", 2), ("parquet", 1), ("parquet", 4), ("feather", 2)]
    return {f"{n} {ending}": write_parts(root / f"{ending}-{n}", big_table(), n, ending) for ending, n in cuts}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["method"])
@pytest.mark.parametrize("numbered", [False, True])
def test_the_same_rows_for_any_parts_and_formats(
    tables: dict[str, Path], method: dict[str, Any], numbered: bool
) -> None:
    """300,000 rows in 1 to 7 files of four formats: the same 500 instances in the same order, and the same report."""
    every = method["method"] == "uniform" and not numbered
    chosen = tables if every else {name: tables[name] for name in ("7 csv", "4 parquet")}
    draws = [draw(folder, count=500, numbered=numbered, **method) for folder in chosen.values()]
    assert len({instance.id for instance in draws[0].rows.instances()}) == 500
    plain = [(drawn.rows.instances(), drawn.report) for drawn in draws]
    assert all(other == plain[0] for other in plain[1:])


def test_a_draw_by_id_ignores_the_order_of_rows(tables: dict[str, Path], tmp_path: Path) -> None:
    """Shuffling the table changes row numbers only."""
    shuffled = big_table().take(np.random.Generator(np.random.Philox(9)).permutation(300_000))
    before = draw(tables["1 parquet"], count=300)
    after = draw(write_parts(tmp_path / "t", shuffled, 2, "parquet"), count=300)
    assert [i.id for i in before.rows.instances()] == [i.id for i in after.rows.instances()]
    assert [i.centre_nm for i in before.rows.instances()] == [i.centre_nm for i in after.rows.instances()]


def test_seeds_differ_and_larger_draws_begin_with_smaller_ones(tables: dict[str, Path]) -> None:
    """A data set can grow without losing what was made; another seed gives other rows."""
    for method in METHODS:
        long, short = (draw(tables["1 parquet"], count=n, **method).rows.instances() for n in (400, 150))
        assert long[:150] == short
    other = draw(tables["1 parquet"], seed=2, count=400, **METHODS[0]).rows.instances()
    assert len({i.id for i in other} & {i.id for i in long}) < 20


def chi_square_excess(counts: np.ndarray, expected: np.ndarray) -> float:
    """Return by how many standard deviations chi-square exceeds its mean."""
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def test_a_uniform_draw_is_uniform_over_rows_and_seeds() -> None:
    """Chi-square over 100 stretches of 10,000 sequential ids, 100 seeds of 200 rows: within 5 standard deviations."""
    rows = plain_rows(10_000)
    counts = np.zeros(100)
    first = np.zeros(100)
    for seed in range(100):
        ids = drawn_of(rows, seed, 200)
        np.add.at(counts, np.array(ids) // 100, 1)
        first[ids[0] // 100] += 1
    assert abs(chi_square_excess(counts, np.full(100, 200.0))) < CHI_SQUARE_LIMIT
    assert chi_square_excess(first, np.full(100, 1.0)) < CHI_SQUARE_LIMIT


def test_pairs_of_rows_are_drawn_independently() -> None:
    """Neighbouring ids come together as often as chance has it: n(n-1)/N expected, within 5 standard deviations."""
    rows, together = plain_rows(5_000), 0
    for seed in range(100):
        ids = np.sort(drawn_of(rows, seed, 500))
        together += int((np.diff(ids) == 1).sum())
    expected = 100 * 500 * 499 / 5_000
    assert abs(together - expected) < CHI_SQUARE_LIMIT * np.sqrt(expected)


def plain_rows(count: int) -> Rows:
    number = np.arange(count)
    points = np.zeros((count, 3))
    return Rows(number, number, points, points, points, number, number, number)


def drawn_of(rows: Rows, seed: int, count: int) -> list[int]:
    """Return the ids that are drawn uniformly as by `draw_instances`, without a file."""
    from voxmint.randomness import Stream

    keys = Stream(seed, "instances", "rows")
    first, second = np.uint64(keys.word()), np.uint64(keys.word())
    reservoir = Reservoir(count)
    reservoir.add(rows, np.zeros(len(rows), np.uint64), mix(mix(rows.id.astype(np.uint64) + first) ^ second))
    return reservoir.drawn()[0].id.tolist()


def test_mix_is_splitmix64() -> None:
    """The first words of SplitMix64 from state 0, as published with the algorithm."""
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(i * gamma) % 2**64 for i in range(3)], np.uint64)
    assert [f"{word:x}" for word in mix(states).tolist()] == ["e220a8397b1dcdaf", "6e789e6aa1b965f4", "6c45d188009454f"]


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any),
    count=st.integers(1, 40),
    cuts=st.integers(1, 7),
    slack=st.integers(0, 10),
    seed=st.integers(0, 2**32),
)
def test_the_reservoir_is_the_plain_definition(sizes: list[int], count: int, cuts: int, slack: int, seed: int) -> None:
    """Cut anyhow and pruned early, the reservoir gives what sorting everything by (rank, stratum) gives."""
    from voxmint.instances.draw import reservoir as module

    strata = np.repeat(mix(np.arange(len(sizes), dtype=np.uint64)), sizes)
    order = np.argsort(mix(np.arange(len(strata), dtype=np.uint64) + np.uint64(seed)))
    strata, priority = strata[order], mix(np.arange(len(strata), dtype=np.uint64) ^ np.uint64(seed))
    keys = []
    for i in range(len(strata)):
        rank = int(((strata == strata[i]) & (priority < priority[i])).sum())
        keys.append((rank, int(strata[i]), i))
    expected = [i for _, _, i in sorted(keys)][:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLACK", slack)
        pool = Reservoir(count)
        for which in np.array_split(np.arange(len(strata)), cuts):
            pool.add(plain_rows(len(strata)).take(which), strata[which], priority[which])
        rows, _, twice = pool.drawn()
    assert rows.row.tolist() == expected
    assert twice.size == 0


@settings(deadline=None, max_examples=40)
@given(
    ids=st.lists(st.integers(0, 2**62), min_size=1, max_size=60, unique=True),
    method=st.sampled_from(METHODS),
    count=st.integers(1, 60),
    seed=st.integers(0, 999),
    slack=st.integers(0, 9),
)
def test_a_draw_is_the_plain_definition(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], method: dict[str, Any], count: int, seed: int, slack: int
) -> None:
    """Sorting all rows in memory by (rank in the stratum, word of the stratum) gives the same rows, in order."""
    from voxmint.instances.draw import reservoir as module
    from voxmint.instances.draw.reservoir import mix_cells
    from voxmint.randomness import Stream

    def words(name: str) -> Stream:
        return Stream(seed, "instances", name)

    values = np.array(ids)
    points, kinds = (values[:, None] >> np.array([0, 20, 40])) % 20_000, values % 3
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    columns = {axis: points[:, i] for i, axis in enumerate("xyz")}
    pq.write_table(pa.table({"id": values, **columns, "kind": kinds}), path, row_group_size=7)
    keys = words("rows")
    first, second = np.uint64(keys.word()), np.uint64(keys.word())
    priority = mix(mix(values.astype(np.uint64) + first) ^ second).tolist()
    strata = [0] * len(ids)
    if method["method"] == "stratified":
        strata = [Stream(seed, "instances", "stratum", str(kind)).word() for kind in kinds.tolist()]
    if method["method"] == "density":
        strata = mix_cells(points // 5_000, np.uint64(words("cells").word())).tolist()
    rank = [
        sum(s == strata[i] and p < priority[i] for s, p in zip(strata, priority, strict=True)) for i in range(len(ids))
    ]
    expected = [i for _, _, i in sorted(zip(rank, strata, range(len(ids)), strict=True))][:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLACK", slack)
        drawn = draw(path, seed=seed, count=min(count, len(ids)), **method)
    assert drawn.rows.row.tolist() == expected
    assert drawn.rows.id.tolist() == values[expected].tolist()
    np.testing.assert_array_equal(drawn.rows.centre_nm, points[expected])


def test_strata_are_equal_as_far_as_there_are(tables: dict[str, Path]) -> None:
    """Of 90, 9 and 1 per cent of the rows, a third each; a stratum that runs out leaves the rest to the others."""
    drawn = draw(tables["1 parquet"], count=3_000, method="stratified", stratify_by="kind").report
    assert drawn["strata"] == {"?": 1_000, "E": 1_000, "I": 1_000}
    few = sum(value == "?" for value in big_table()["kind"].to_pylist())
    drawn = draw(tables["1 parquet"], count=12_000, method="stratified", stratify_by="kind").report["strata"]
    assert drawn["?"] == few
    assert abs(drawn["E"] - drawn["I"]) <= 1


def test_density_takes_equally_from_crowded_and_empty_space(tables: dict[str, Path]) -> None:
    """The crowded corner gives 1/8 of the space's share at most, where a uniform draw gives over a third."""

    def corner(**recipe: Any) -> float:
        drawn = draw(tables["1 parquet"], count=400, **recipe)
        return float(np.mean([max(i.centre_nm) < 25_000 for i in drawn.rows.instances()]))

    balanced = draw(tables["1 parquet"], count=400, **METHODS[2])
    assert balanced.report["most_in_a_cell"] == 1
    assert corner(**METHODS[2]) == pytest.approx(0.125, abs=0.06)
    assert corner(method="uniform") > 0.3


def test_cells_go_on_below_zero(tmp_path: Path) -> None:
    """Around 0 lie eight cells, not one of double size: from each one row, though one has nearly all of them."""
    corners = ["".join(f"{n}," for n in signs) for signs in itertools.product((-1, 1), repeat=3)]
    path = csv(tmp_path / "t.csv", "x,y,z,\n" + "\n".join(corners) + "\n" + f"{corners[-1]}\n" * 200)
    drawn = draw(path, numbered=True, count=8, method="density", cell_nm=(5_000, 5_000, 5_000))
    assert sorted(i.centre_nm for i in drawn.rows.instances()) == sorted(itertools.product((-1.0, 1.0), repeat=3))
    assert (drawn.report["cells"], drawn.report["most_in_a_cell"]) == (8, 1)


def test_filters_are_counted_and_add_up(tables: dict[str, Path]) -> None:
    """Every row read is dropped under one reason or eligible, and every instance drawn is inside."""
    box = ((0.0, 0.0, 0.0), (20_000.0, 50_000.0, 50_000.0))
    volume = {"target volume": ((1_000.0, 0.0, 0.0), (40_000.0, 40_000.0, 40_000.0))}
    drawn = draw(tables["4 parquet"], inside=volume, count=200, box_nm=box)
    report = drawn.report
    assert report["rows"] == 300_000 == report["eligible"] + sum(report["dropped"].values())
    x, y, z = (big_table()[axis].to_numpy() for axis in "xyz")
    in_volume = (x >= 1_000) & (x < 40_000) & (y < 40_000) & (z < 40_000)
    assert report["dropped"]["outside target volume"] == int((~in_volume).sum())
    assert report["eligible"] == int((in_volume & (x < 20_000)).sum())
    assert all(1_000 <= i.centre_nm[0] < 20_000 and max(i.centre_nm) < 40_000 for i in drawn.rows.instances())


def test_ids_can_be_asked_for(tables: dict[str, Path]) -> None:
    """All of them come, once; one that is not there is an error that names it."""
    ids = sorted(big_table()["id"].to_pylist()[:20])
    assert sorted(i.id for i in draw(tables["1 parquet"], ids=ids).rows.instances()) == ids
    with pytest.raises(InputError, match="1 of 21 ids are not in the table"):
        draw(tables["1 parquet"], ids=[*ids, 2])


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_more_than_there_are_is_refused_with_the_number(tmp_path: Path) -> None:
    """The error says how many exist and what the filters took."""
    path = csv(tmp_path / "t.csv", "x,y,z\n" + "1,1,1\n" * 5 + "9,9,9\n" * 4)
    with pytest.raises(InputError, match="10 instances asked for, but there are 9"):
        draw(path, numbered=True, count=10)
    with pytest.raises(InputError, match=r"6 instances asked for, but there are 5(.|\n)*9 rows \(4 outside box_nm\)"):
        draw(path, numbered=True, count=6, box_nm=((0, 0, 0), (5, 5, 5)))
    with pytest.raises(InputError, match=r"x 1 to 9(.|\n)*volume: x 100 to 200(.|\n)*check the voxel size"):
        draw(path, numbered=True, count=1, inside={"volume": ((100, 100, 100), (200, 200, 200))})


def test_rows_without_a_point_are_refused_or_counted(tmp_path: Path) -> None:
    """NaN and empty coordinates name file and row; on request they are left out and counted."""
    path = csv(tmp_path / "t.csv", "x,y,z\n1,1,1\n2,nan,2\n,,\n3,3,3\n")
    with pytest.raises(InputError, match=r"t\.csv: no centre.*x, y, z, row 2"):
        draw(path, numbered=True, count=1)
    drawn = draw(path, numbered=True, without_point="drop")
    assert [i.row for i in sorted(drawn.rows.instances(), key=lambda i: i.row)] == [0, 3]
    assert drawn.report["dropped"] == {"without a point": 2}


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """In different parts too; without an id column equal rows are no duplicates."""
    csv(tmp_path / "a.csv", "id,x,y,z\n1,1,1,1\n2,1,1,1\n")
    csv(tmp_path / "b.csv", "id,x,y,z\n3,1,1,1\n1,1,1,1\n")
    with pytest.raises(InputError, match=r"1 ids are there more than once(.|\n)*got: 1"):
        draw(tmp_path, count=1)
    assert len(draw(tmp_path, numbered=True).rows.instances()) == 4


@settings(deadline=None)
@given(where=st.integers(0, 399), count=st.integers(1, 60), seed=st.integers(0, 999))
def test_in_a_huge_table_a_drawn_id_is_never_there_twice(
    tmp_path_factory: pytest.TempPathFactory, where: int, count: int, seed: int
) -> None:
    """Where not all ids are compared, a repeated one is refused exactly when it would be drawn."""
    ids = [*range(400), where]
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    pq.write_table(pa.table({"id": ids, "x": ids, "y": ids, "z": ids}), path, row_group_size=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "DUPLICATES_CHECKED", 10)
        clean = drawn_of(plain_rows(400), seed, count)
        if where in clean:
            with pytest.raises(InputError, match="more than once"):
                draw(path, seed=seed, count=count)
        else:
            assert [i.id for i in draw(path, seed=seed, count=count).rows.instances()] == clean


def test_a_column_of_names_is_no_stratum(tables: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A column with too many values, or none of that name, is refused with what to do."""
    monkeypatch.setattr(sampling, "MOST_STRATA", 1_000)
    with pytest.raises(InputError, match="more than 1,000 different values"):
        draw(tables["1 parquet"], count=5, method="stratified", stratify_by="id")
    with pytest.raises(InputError, match="did you mean kind"):
        draw(tables["1 parquet"], count=5, method="stratified", stratify_by="kinds")


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "stratified"},
        {"stratify_by": "kind"},
        {"count": 0},
        {"box_nm": ((0, 0, 0), (1, 0, 1))},
        {"ids": ()},
        {"method": "density", "cell_nm": (0, 1, 1)},
    ],
)
def test_recipes_that_contradict_themselves_are_refused(recipe: dict[str, Any]) -> None:
    """Each is an error before any file is opened."""
    with pytest.raises(RecipeError):
        SamplingRecipe(**recipe)


def test_a_gzip_cut_at_its_end_never_gives_fewer_rows(tmp_path: Path) -> None:
    """All rows may be there, but the checksum is not: refused."""
    data = gzip.compress(b"x,y,z\n" + b"1,1,1\n" * 1000)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(data[:-4])
    with pytest.raises(InputError, match=r"t\.csv\.gz"):
        draw(path, numbered=True, count=10)


STRESS = r"""
import json, re, sys
from voxmint.instances.table.columns import ColumnMap
from voxmint.instances.draw.sampling import SamplingRecipe, draw_instances
from voxmint.instances.table.rows import rows_fingerprint
from voxmint.instances.table.table import InstanceTable
def peak():  # ru_maxrss would count the parent's
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) // 1024
empty = peak()
table = InstanceTable(sys.argv[1], ColumnMap(voxel_size_nm=(8, 8, 33), id=("id",)))
drawn = draw_instances(table, SamplingRecipe(**json.loads(sys.argv[2])), 7)
print(peak() - empty, rows_fingerprint(drawn.rows), drawn.report["rows"])
"""


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("count", [1_000, 1_000_000])
def test_twenty_million_rows_in_little_memory(tmp_path: Path, count: int) -> None:
    """Of 20 million rows, from 40 CSV parts and from one Parquet file: the same ones, in 150 MB beside the modules."""
    rows, parts = 20_000_000, 40
    (tmp_path / "csv").mkdir()
    with pq.ParquetWriter(tmp_path / "one.parquet", stress_part(0, 1).schema) as writer:
        for number in range(parts):
            table = stress_part(number, rows // parts)
            pyarrow.csv.write_csv(table, tmp_path / "csv" / f"part-{number}.csv")
            writer.write_table(table)
    for recipe in METHODS:
        named = {**recipe, **({"stratify_by": "type"} if "stratify_by" in recipe else {}), "count": count}
        results = []
        for source in ("csv", "one.parquet"):
            command = [sys.executable, "-c", STRESS, str(tmp_path / source), json.dumps(named)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peak, digest, number = done.stdout.split()
            print(named, source, peak, "MB")
            assert int(peak) < 150
            assert int(number) == rows
            results.append(digest)
        assert results[0] == results[1]


def stress_part(number: int, rows: int) -> pa.Table:
    """Return a part of H01's columns with random values."""
    rng = np.random.Generator(np.random.Philox(number))
    points = rng.integers(0, (400_000, 300_000, 5_000), (rows, 3))
    columns: dict[str, Any] = {"id": np.arange(number * rows, (number + 1) * rows) * 7 + 11}
    for prefix, shift in (("", 0), ("pre_pt_", -3), ("post_pt_", 4)):
        columns.update({f"{prefix}{axis}": points[:, i] + shift for i, axis in enumerate("xyz")})
    for name in ("pre_neuron_id", "post_neuron_id"):
        columns[name] = rng.integers(1, 10**12, rows)
    return pa.table({**columns, "type": rng.integers(1, 4, rows)})
