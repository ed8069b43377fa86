"""A canary in every address: it may reach its server, and nothing else."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from volumes.servers import http_server
from voxmint.errors import VoxmintError
from voxmint.stores.place import Place
from voxmint.stores.secrets import public_url, scrub
from voxmint.volumes.opening import open_layer

CANARY = "c4n4ryS3cr3t"
USERS = [f"AKIAKEY:{CANARY}", f"AKIAKEY:a/b+{CANARY}/c", CANARY, f"user:{CANARY}@{CANARY}"]
QUERY = f"X-Amz-Signature={CANARY}"
BUCKETS = [f"{scheme}://{user}@bucket/a" for scheme in ("s3", "gs") for user in USERS]
BUCKETS += [f"s3://bucket/a?{QUERY}", f"gs://bucket/a?{CANARY}", f"gs://bucket/a#{CANARY}", f"s3://AKIAKEY:{CANARY}"]


def addresses(server: str) -> list[str]:
    """Return addresses of nothing, with secrets."""
    host = server.removeprefix("http://")
    web = [f"http://{user}@{host}/a" for user in USERS]
    web += [f"http://{host}/a?{QUERY}", f"http://{host}/a?{CANARY}", f"http://{host}/a?b={quote(CANARY + '/+')}"]
    web += [f"ftp://user:{CANARY}@{host}/a", f"http:/user:{CANARY}@{host}/a", f"graphene://http://u:{CANARY}@{host}/a"]
    return [*BUCKETS, *web, *(f"precomputed://{address}" for address in (*BUCKETS, *web)), f"zarr://{web[0]}"]


def test_layers_show_no_secret(tmp_path: Path) -> None:
    """Neither errors, nor their causes, nor what is opened."""
    pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
    with http_server(tmp_path) as server:
        for address in addresses(server.url):
            for reader in ("auto", "tensorstore", "cloudvolume"):
                with pytest.raises(VoxmintError) as caught:
                    open_layer(address, reader=reader, attempts=1)
                error: BaseException | None = caught.value
                while error is not None:
                    assert CANARY not in f"{error} {error!r} {error.args}", address
                    error = error.__cause__ or error.__context__
        assert any(authorization.startswith("Basic ") for authorization in server.authorizations)
        assert f"b={quote(CANARY + '/+')}" in server.queries


@pytest.mark.parametrize("address", BUCKETS)
def test_stores_refuse_addresses_with_secrets(address: str) -> None:
    """Names of objects would begin with them."""
    with pytest.raises(VoxmintError, match="holds credentials or a query") as caught:
        Place(address)
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_public_addresses_stay_as_they_are() -> None:
    """What looks a little like a secret is none."""
    for address in ("gs://bucket/data@v1/x", "http://host:8080/a@b/c", "s3://a.b-c/d:e/f", "file:///a/b@c"):
        assert public_url(address) == address
        assert scrub(address) == address


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers and a table, unpacked as a plain server needs them."""
    from voxmint.phantom.layers import make_phantom

    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, size=(256, 256, 32), instances=8)
    for packed in folder.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.mark.parametrize("command", ["make", "check", "out", "plan", "table", "flag"])
def test_commands_show_and_write_no_secret(tmp_path: Path, phantom: Path, command: str) -> None:
    """Standard output, standard error, and every name and byte in the folder."""
    environment = {**os.environ, "HOME": str(tmp_path / "empty")}
    (tmp_path / "empty").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    with http_server(phantom) as server:
        host = server.url.removeprefix("http://")
        web = f"http://user:{CANARY}@{host}"
        layers = {"source": f"{web}/source?{QUERY}", "target": f"{web}/target?{QUERY}"}
        flags = {
            "--table": str(phantom / "materialization.csv"),
            "--table-voxel-size": "16,16,30",
            "--out": str(work / "out"),
        }
        lines: list[tuple[dict[str, str], dict[str, str], list[str]]] = {
            "make": [(layers, {}, ["--count", "2", "--workers", "1", "--crop", "32,32,8"])],
            "plan": [(layers, {}, ["--count", "2", "--crop", "32,32,8", "--dry-run"])],
            "check": [(layers, {"--out": ""}, []), ({**layers, "target": f"{web}/none?{QUERY}"}, {"--out": ""}, [])],
            "out": [(layers, {"--out": address}, ["--count", "2"]) for address in BUCKETS[::3]],
            "table": [(layers, {"--table": f"{web}/t.csv?{QUERY}"}, [])],
            "flag": [
                (layers, {}, ["--no-such-flag", f"{web}/a?{QUERY}"]),
                (layers, {"--reader": f"{web}/{QUERY}"}, []),
            ],
        }[command]  # fmt: skip
        for places, changes, more in lines:
            given = {f"--{name}": url for name, url in places.items()} | flags | changes
            verb = "check" if command == "check" else "make"
            words = [word for name, value in given.items() if value for word in (name, value)]
            done = subprocess.run(
                [sys.executable, "-m", "voxmint", "instances", verb, *words, *more],
                cwd=work, capture_output=True, text=True, timeout=120, env=environment,
            )  # fmt: skip
            assert CANARY not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            works = command in ("make", "plan") or (command == "check" and "none" not in places["target"])
            assert (done.returncode == 0) == works, done.stderr
    for path in work.rglob("*"):
        assert CANARY not in str(path)
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()
