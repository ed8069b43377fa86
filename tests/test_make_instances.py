"""Samples around instances through the command line, on a small phantom, with real files, servers and processes."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest

from voxmint.cli import main
from voxmint.instances.draw.sampling import SamplingRecipe
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.columns import ColumnMap
from voxmint.make.instances import Inputs, prepare_instances
from voxmint.phantom.layers import make_phantom
from voxmint.sample import Sample
from voxmint.stores.place import Place

sys.path.append(str(Path(__file__).parent / "volumes"))
from servers import both_clouds, http_server

for package in ("tensorstore", "cloudvolume", "gcsfs", "s3fs"):
    pytest.importorskip(package, reason="needs voxmint[cloud]")
for package in ("moto", "gcp_storage_emulator"):
    pytest.importorskip(package, reason="needs voxmint[test]")

ROWS, SCENARIOS = 12, 2
UNITS = ["--table-voxel-size", "16,16,30"]
MISSING = 11  # the phantom's last row has no mask
ALONE = "40-104_88-152_12-28"  # a chunk of the target that holds the centre of row 8 and of no other
GOOD = {"--crop": "16,16,8", "--scenarios": str(SCENARIOS), "--workers": "1"}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=ROWS)
    return folder


def flags(phantom: Path | str, out: Path | str, table: Path | None = None, **given: str | None) -> list[str]:
    """The good flags, with those given over them; None leaves one out."""
    places = {"--source": f"{phantom}/source", "--target": f"{phantom}/target"}
    places |= {"--table": str(table or f"{phantom}/materialization.csv"), "--out": str(out)}
    values = {**places, **GOOD, "--table-voxel-size": "16,16,30"}
    values |= {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return [part for name, value in values.items() if value is not None for part in (name, value)]


def make(phantom: Path | str, out: Path | str, *more: str, **given: str | None) -> int:
    return main(["instances", "make", *flags(phantom, out, **given), *more])


@pytest.fixture(scope="session")
def made(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one worker makes through TensorStore, as a tree of .npy files: to be read, not changed."""
    out = tmp_path_factory.mktemp("made") / "npy"
    assert make(phantom, out, reader="tensorstore") == 0
    return out


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def digests(folder: Path) -> dict[int, str]:
    return {record["index"]: record["digest"] for record in records(folder)}


def rejections(folder: Path) -> dict[int, str]:
    with (folder / "rejected.csv").open(newline="") as lines:
        return {int(row["index"]): row["reason"] for row in csv.DictReader(lines)}


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".voxmint" not in path.parts
    }


def test_each_scenario_is_made_or_rejected(made: Path) -> None:
    """Made and rejected are all there are; the row without a mask is rejected in words, with a picture."""
    rejected = rejections(made)
    assert sorted([*digests(made), *rejected]) == list(range(ROWS * SCENARIOS))
    assert len(rejected) == SCENARIOS
    assert set(rejected.values()) == {"there is no mask in the crop"}
    report = json.loads((made / "report.json").read_text())
    assert (report["table"]["rows"], report["table"]["drawn"]) == (ROWS, ROWS)
    assert report["units"]["hit_rate"] > 0.9
    assert (made / "montage.png").stat().st_size > 1000
    assert (made / "rejected.png").stat().st_size > 1000


def test_tree_has_the_published_names(made: Path) -> None:
    """source/source_<id>, gt/target_<id> and target/augmented_target_<id>_<scenario>, opened by plain NumPy."""
    ids = [number for number in range(ROWS) if number != MISSING]
    names = [f"source/source_{n}.npy" for n in ids] + [f"gt/target_{n}.npy" for n in ids]
    names += [f"valid/valid_{n}.npy" for n in ids]
    names += [f"target/augmented_target_{n}_{s}.npy" for n in ids for s in range(SCENARIOS)]
    assert sorted(name for name in hashes(made) if name.endswith(".npy") and "/" in name) == sorted(names)
    seeds = set()
    for number, scenario in product(ids, range(SCENARIOS)):
        gt = np.load(made / f"gt/target_{number}.npy")
        seed = np.load(made / f"target/augmented_target_{number}_{scenario}.npy")
        assert gt.shape == seed.shape == (8, 32, 32)
        kept = seed.any(axis=(1, 2))
        assert kept.any()
        np.testing.assert_array_equal(seed, gt * kept[:, None, None])
        seeds.add(seed.tobytes())
    assert len(seeds) > len(ids)


@pytest.mark.parametrize(("reader", "format", "workers"), [("tensorstore", "npy", "2"), ("cloudvolume", "hdf5", "1")])
def test_digests_do_not_depend_on_how(phantom, made, tmp_path, reader, format, workers) -> None:
    """Another reader, format and number of workers make the same samples and reject the same rows."""
    assert make(phantom, tmp_path, reader=reader, format=format, workers=workers) == 0
    assert digests(tmp_path) == digests(made)
    assert rejections(tmp_path) == rejections(made)
    if format == "npy":
        assert hashes(tmp_path) == hashes(made)
        return
    with h5py.File(tmp_path / "train_data.hdf5") as file:
        assert len(file) == len(digests(made))
        for record in records(made)[::5]:
            seed = np.load(made / f"target/augmented_target_{record['key']}.npy")
            np.testing.assert_array_equal(file[f"{record['index']:06}"]["seed"][()], seed)


def test_order_does_not_matter(phantom, made) -> None:
    """A stream backwards and single samples are those of the run."""
    inputs = Inputs(
        f"{phantom}/source",
        f"{phantom}/target",
        phantom / "materialization.csv",
        ColumnMap(voxel_size_nm=(16.0, 16.0, 30.0)),
    )
    recipe = InstanceRecipe(crop_vx=(16, 16, 8), scenarios=SCENARIOS)
    sampler = prepare_instances(inputs, recipe, SamplingRecipe()).sampler("")
    backwards = {o.index: o.digest() for o in sampler.stream(reversed(range(len(sampler)))) if isinstance(o, Sample)}
    assert backwards == digests(made)
    assert sampler[5].digest() == digests(made)[5]
    order = sampler.order()
    assert sorted(order) == list(range(len(sampler)))
    assert all(a // SCENARIOS == b // SCENARIOS for a, b in zip(order[::2], order[1::2], strict=True))


def test_rerun_changes_nothing(phantom, made, tmp_path, capsys) -> None:
    """The same command again finds all there; another seed is refused and costs nothing."""
    out = shutil.copytree(made, tmp_path / "out")
    before = hashes(out)
    assert make(phantom, out) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make(phantom, out, seed="7") == 1
    told = capsys.readouterr().err
    assert "another data set" in told
    assert "rows.fingerprint" in told
    assert "seed: 0 there, 7 asked" in told
    assert make(phantom, out, crop="16,16,6") == 1
    assert "another data set" in capsys.readouterr().err
    assert hashes(out) == before


def test_dry_run_tells_and_writes_nothing(phantom, tmp_path, capsys) -> None:
    """Instances, chunks, requests, bytes and disk are told; no file appears, nor for a bucket."""
    assert make(phantom, tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    for words in (f"instances {ROWS}", "distinct, one request each", "MB unpacked", "samples   24", "to write", "free"):
        assert words in told
    chunks = int(told.split("chunks")[1].split()[0])
    assert 8 <= chunks <= 40
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"table_voxel_size": "8,8,30"}, ["look like 16x16x30 nm, not 8x8x30 nm", "remedy"]),
        ({"table_voxel_size": "160,160,300"}, ["look like 16x16x30 nm", "12 lie outside"]),
        ({"axes": "zyx"}, ["columns in the order zyx"]),
        ({"axes": "yxz", "count": "8"}, ["columns in the order yxz"]),
        ({"table_voxel_size": None}, ["table-voxel-size"]),
        ({"table_voxel_size": "16,16"}, ["--table-voxel-size", "not three numbers"]),
        ({"table_voxel_size": "16,0,30"}, ["greater than 0"]),
        ({"count": "13"}, ["13 instances asked for, but there are 12"]),
        ({"box_nm": "1,2,3,4,5,6"}, ["no row is left", "12 outside box_nm"]),
        ({"box_nm": "1,2,3"}, ["not six numbers"]),
        ({"crop": "16,16,8.5"}, ["voxels are whole"]),
        ({"crop_nm": "500,500,500"}, ["two sizes of the crop"]),
        ({"source": "/nowhere/source"}, ["/nowhere/source"]),
        ({"split": "train"}, ["train=0.8,validation=0.2"]),
        ({"format": "hdf5", "out": "gs://bucket/x"}, ["HDF5", "npy"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(phantom, tmp_path, capsys, given, words) -> None:
    """Wrong units, axes, columns, numbers and places end at once, say why, and leave nothing behind."""
    out = given.pop("out", tmp_path / "out")
    assert make(phantom, out, **given) in (1, 2)
    told = capsys.readouterr().err
    for word in words:
        assert word in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_missing_column_is_named(phantom, tmp_path, capsys) -> None:
    """A table without x names the column, and those there are."""
    lines = [line.split(",", 1)[1] for line in (phantom / "materialization.csv").read_text().splitlines()]
    lines = [line.replace("pre_pt_x", "a").replace("post_pt_x", "b") for line in lines]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))
    assert make(phantom, tmp_path / "out", table=str(table)) == 1
    told = capsys.readouterr().err
    assert str(table) in told
    assert "pre_pt_y" in told
    assert not (tmp_path / "out").exists()


def test_layers_that_do_not_overlap_are_refused(phantom, tmp_path, capsys) -> None:
    """A target that lies elsewhere is refused with both spans in nm."""
    info = json.loads((phantom / "target/info").read_text())
    info["scales"][0]["voxel_offset"] = [9000, 9000, 9000]
    (tmp_path / "far").mkdir()
    (tmp_path / "far/info").write_text(json.dumps(info))
    assert make(phantom, tmp_path / "out", target=str(tmp_path / "far")) == 1
    told = capsys.readouterr().err
    assert "do not overlap" in told
    assert "144000" in told


def test_forbidden_chunk_fails_or_rejects_but_is_never_zeros(phantom, made, tmp_path, capsys) -> None:
    """403 for one chunk: the others are made, the run names it and later goes on, or rejects if the recipe says so."""
    with http_server(phantom) as server:
        server.faults[ALONE] = [403, ...]
        table = str(phantom / "materialization.csv")
        assert make(server.url, tmp_path / "fails", table=table) == 1
        told = capsys.readouterr().err
        assert "is forbidden" in told
        assert "the same command makes only what is missing" in told
        assert not (tmp_path / "fails/records.jsonl").exists()
        assert make(server.url, tmp_path / "rejects", table=table, on_chunk_error="reject") == 0
        server.faults.clear()
        assert make(server.url, tmp_path / "fails", table=table) == 0
    assert digests(tmp_path / "fails") == digests(made)
    reasons = rejections(tmp_path / "rejects")
    lost = [index for index, reason in reasons.items() if "forbidden" in reason]
    assert 0 < len(lost) < ROWS * SCENARIOS / 2
    kept = digests(tmp_path / "rejects")
    assert sorted([*kept, *reasons]) == list(range(ROWS * SCENARIOS))
    assert kept == {index: digest for index, digest in digests(made).items() if index not in lost}


def test_processes_ask_for_each_chunk_once(phantom, made, tmp_path) -> None:
    """Checks, two workers and pictures share what they fetched, and leave no trace of it."""
    with http_server(phantom) as server:
        assert make(server.url, tmp_path, table=str(phantom / "materialization.csv"), workers="2") == 0
    chunks = {path: asked for path, asked in server.requests.items() if "_" in path}
    assert len(chunks) >= 8
    assert set(chunks.values()) == {1}
    assert digests(tmp_path) == digests(made)
    assert [path.name for path in (tmp_path / ".voxmint").iterdir()] == ["lock"]
    assert "shared" not in (tmp_path / "recipe.yaml").read_text()


def test_splits_share_no_voxel_nor_neuron(phantom, tmp_path, capsys) -> None:
    """train/ and validation/ hold all drawn rows but those told as left out; crops and neurons are apart."""
    assert make(phantom, tmp_path, split="train=0.5,validation=0.5", scenarios="1") == 0
    told = capsys.readouterr().out
    train, validation = (records(tmp_path / name) for name in ("train", "validation"))
    for one, other in product(train, validation):
        boxes = [np.array(each["record"]["box_nm"]) for each in (one, other)]
        assert (np.minimum(*(b[1] for b in boxes)) <= np.maximum(*(b[0] for b in boxes))).any()
    neurons = [
        {each["record"]["instance"][name] for each in split for name in ("pre_neuron_id", "post_neuron_id")}
        for split in (train, validation)
    ]
    assert not neurons[0] & neurons[1]
    report = json.loads((tmp_path / "train/report.json").read_text())["splits"]
    assert report["overlap"]["disjoint"]
    assert report["overlap"]["neurons_disjoint"]
    assert (tmp_path / "validation/report.json").read_bytes() == (tmp_path / "train/report.json").read_bytes()
    assert sum(report["counts"].values()) + sum(report["left_out"].values()) == ROWS
    rejected = sum(len(rejections(tmp_path / name)) for name in report["counts"])
    assert len(train) + len(validation) + rejected == sum(report["counts"].values())
    for reason, number in report["left_out"].items():
        assert not number or f"{number} {reason}" in told


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both emulators, and an environment in which all clients speak to them."""
    folder = tmp_path_factory.mktemp("clouds")
    with both_clouds(folder):
        yield


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the state of runs to buckets lies."""
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def objects_of(place: str) -> dict[str, str]:
    store = Place(place)
    return {name: hashlib.sha256(store.read(name)).hexdigest() for name in store.list()}


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_buckets_get_the_tree_of_a_folder(phantom, made, clouds, state, tmp_path, monkeypatch, scheme, capsys) -> None:
    """--out gs:// and s3:// hold the files of a folder, summaries and pictures too; a rerun finds it complete."""
    place = f"{scheme}://bucket/{tmp_path.name}"
    assert make(phantom, place) == 0
    store, files, there = Place(place), hashes(made), objects_of(place)
    assert there == files
    assert {"recipe.yaml", "records.jsonl", "records.npy", "rejected.csv", "rows.npy", "report.json", "montage.png",
            "rejected.png", "manifest.jsonl"} <= there.keys()  # fmt: skip
    lines = store.read("records.jsonl").decode().splitlines()
    assert {json.loads(line)["index"]: json.loads(line)["digest"] for line in lines} == digests(made)
    assert b"there is no mask in the crop" in store.read("rejected.csv")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert make(phantom, place) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make(phantom, place, seed="4") == 1
    assert "another data set" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert objects_of(place) == files


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_bucket_is_looked_after_from_another_machine(
    phantom, made, clouds, tmp_path, monkeypatch, scheme, capsys
) -> None:
    """Without the state of its run: verify, montage and repair work, and another data set there is refused."""
    place = f"{scheme}://bucket/{tmp_path.name}"
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "first"))
    assert make(phantom, place, count="3") == 0
    whole = objects_of(place)
    for number, command in enumerate((["verify", place], ["montage", place, "--out", str(tmp_path / "some.png")])):
        monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / f"other {number}"))
        assert main(command) == 0
        assert not (tmp_path / f"other {number}").exists()
    assert (tmp_path / "some.png").stat().st_size > 1000
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "third"))
    assert make(phantom, place, count="3", seed="4") == 1
    assert "another data set" in capsys.readouterr().err
    assert objects_of(place) == whole
    store = Place(place)
    name, lost = store.list("target")[-1], store.list("source")[0]
    data = bytearray(store.read(name))
    data[3000] ^= 1
    store.write(name, bytes(data))
    store.delete(lost)
    assert main(["verify", place]) == 1
    told = capsys.readouterr().out
    assert name in told
    assert lost in told
    monkeypatch.setenv("VOXMINT_STATE", str(tmp_path / "fourth"))
    assert main(["repair", place, "--workers", "1"]) == 0
    assert objects_of(place) == whole
    assert main(["verify", place]) == 0


@contextmanager
def token_server() -> Iterator[tuple[str, list[str]]]:
    """Give out Google's access tokens; yield the address and what was asked for them."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = json.dumps({"access_token": "given", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token", asked
    finally:
        server.shutdown()
        server.server_close()


def service_account(token_uri: str) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"type": "service_account", "project_id": "project", "private_key_id": "0123", "private_key": key.decode(),
            "client_email": "someone@project.iam.gserviceaccount.com", "token_uri": token_uri}  # fmt: skip


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_secrets_reach_the_bucket_that_is_written_to(
    phantom, made, clouds, state, tmp_path, monkeypatch, scheme
) -> None:
    """--secrets is what the parent and its workers write with; neither its path nor its values are recorded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    place = f"{scheme}://bucket/{tmp_path.name}"
    hidden = tmp_path / "hidden.json"
    with token_server() as (token_uri, asked):
        hidden.write_text('{"token": "of-the-layers-alone"}')
        found = make(phantom, place, secrets=str(hidden))
        assert (found, asked) == (0 if scheme == "gs" else 1, [])  # the emulator of GCS needs none
        values = {"AWS_ACCESS_KEY_ID": "AKIAofmine", "AWS_SECRET_ACCESS_KEY": "wJalrXUtn"}
        hidden.write_text(json.dumps(service_account(token_uri) if scheme == "gs" else values))
        assert make(phantom, f"{place}/mine", secrets=str(hidden)) == 0
        assert len(asked) == (2 if scheme == "gs" else 0)  # the parent and its worker
        store = Place(f"{place}/mine", secrets=hidden)
        objects = {name: store.read(name) for name in store.list()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in objects.items()} == hashes(made)
    files = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.name == "montage.png" for path in files)
    for data in [*objects.values(), *(path.read_bytes() for path in files)]:
        for secret in (b"hidden.json", b"wJalrXUtn", b"AKIAofmine", b"PRIVATE KEY", b"iam.gserviceaccount"):
            assert secret not in data


def test_an_address_of_a_folder_may_be_quoted(phantom, tmp_path) -> None:
    """file:// with %20 is the folder whose name has a space."""
    assert make(phantom, f"file://{tmp_path}/two%20words", count="2") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["two words"]


def test_montage_and_verify(made, tmp_path, capsys) -> None:
    """A picture is drawn from the files; one flipped byte is found and its file named."""
    out = shutil.copytree(made, tmp_path / "out")
    assert main(["montage", str(out), "--out", str(tmp_path / "some.png"), "--count", "3"]) == 0
    assert (tmp_path / "some.png").stat().st_size > 1000
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    path = out / "target/augmented_target_3_1.npy"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(out)]) == 1
    assert path.name in capsys.readouterr().out


def test_check_tells_and_refuses(phantom, capsys) -> None:
    """`instances check` prints hit rate and overlap, and refuses a wrong unit."""
    places = ["--source", f"{phantom}/source", "--target", f"{phantom}/target"]
    command = ["instances", "check", *places, "--table", f"{phantom}/materialization.csv"]
    assert main([*command, *UNITS]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["overlap"]["target_within_source"] == 1.0
    assert report["units"]["points"] == ROWS
    assert main([*command, "--table-voxel-size", "8,8,33"]) == 1
    assert "look like 16x16x30 nm" in capsys.readouterr().err


def test_phantom_command_makes_all_that_make_needs(tmp_path, capsys) -> None:
    """`instances phantom` makes layers and a table that `instances make` takes as they are."""
    assert main(["instances", "phantom", "--out", str(tmp_path), "--instances", "3"]) == 0
    assert "materialization.csv" in capsys.readouterr().out
    assert make(tmp_path, tmp_path / "out", "--dry-run", count="2") == 0
    assert "3 in the table, 2 drawn" in capsys.readouterr().out
