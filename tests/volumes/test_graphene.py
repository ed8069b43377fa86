"""A proofread segmentation: a server of the graph on the loopback, over a precomputed layer of supervoxels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, SIZE, precomputed
from servers import FaultyServer, Loopback, http_server

from voxmint.errors import ChunkError, LayerError
from voxmint.volumes.box import Box
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import layer_from_spec, open_identity, open_layer

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)
NAME = "5-37_-7-25_11-27"
LAYERS, TOKEN = 3, "abcdef0123456789"
THEN, NOW = 1_600_000_000, 1_700_000_000
"""Moments before and after two bodies were merged."""


def supervoxels() -> np.ndarray:
    """Return ids of the graph's first layer, with background between them."""
    x, y, z = np.indices(SHAPE, dtype=np.uint64)
    numbers = 1 + x // 11 + 20 * (y // 9) + 400 * (z // 6)
    return np.asfortranarray(np.where(x % 11 == 0, 0, numbers + (np.uint64(1) << np.uint64(56))))


def root_of(ids: np.ndarray, moment: int) -> np.ndarray:
    """Return the bodies that supervoxels belong to at a moment."""
    bodies = (ids & np.uint64(0xFFFF)) % np.uint64(30 if moment < NOW else 29)
    return np.where(ids == 0, 0, bodies + (np.uint64(LAYERS) << np.uint64(56))).astype(np.uint64)


class GraphServer(Loopback):
    """Answers what CloudVolume asks a server of a proofread segmentation.

    Attributes
    ----------
    status : int
        What is answered when it is asked for roots.
    authorizations : set of str
        Headers seen.
    short : int
        How many bytes are left out at the end of the roots.
    """

    def __init__(self, info: dict[str, object]) -> None:
        self.status, self.short = 200, 0
        self.authorizations: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path == "/segmentation/table/bodies/info"
                self._send(200 if known else 404, json.dumps(info).encode() if known else b"none here")

            def do_POST(self) -> None:
                path, _, query = self.path.partition("?")
                ids = np.frombuffer(self.rfile.read(int(self.headers["Content-Length"])), np.uint64)
                if path != "/segmentation/api/v1/table/bodies/roots_binary" or outer.status != 200:
                    self._send(outer.status if outer.status != 200 else 404, b"refused")
                else:
                    roots = root_of(ids, int(parse_qs(query)["timestamp"][0])).tobytes()
                    self._send(200, roots[: len(roots) - outer.short])

            def _send(self, status: int, body: bytes) -> None:
                outer.authorizations.add(self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(Handler)
        self.url = f"graphene://{self.url}/segmentation/table/bodies"


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watershed")
    precomputed(f"file://{folder}", supervoxels(), "compressed_segmentation", sharded=getattr(request, "param", False))
    return folder


@pytest.fixture
def data(folder: Path, short_pauses: None) -> Iterator[FaultyServer]:
    """Serves the supervoxels."""
    with http_server(folder.parent) as server:
        yield server


@pytest.fixture(params=["file", "http"])
def graph(request: pytest.FixtureRequest, folder: Path, data: FaultyServer) -> Iterator[GraphServer]:
    info = json.loads((folder / "info").read_text())
    info["data_dir"] = f"file://{folder}" if request.param == "file" else f"{data.url}/{folder.name}"
    info["graph"] = {"chunk_size": [256, 256, 64], "cv_mip": 0, "n_layers": LAYERS, "n_bits_for_layer_id": 8,
                     "spatial_bit_masks": {str(n): 10 for n in range(1, LAYERS + 1)}}  # fmt: skip
    info["app"] = {"supported_api_versions": [0, 1]}
    server = GraphServer(info)
    yield server
    server.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "cave-secret.json"
    path.write_text(json.dumps({"token": TOKEN}))
    return path


def opened(graph: GraphServer, secret: Path, moment: int = NOW, **options: object) -> Layer:
    return open_layer(f"{graph.url}?timestamp={moment}", secrets=secret, attempts=2, **options)


@pytest.mark.parametrize(
    ("folder", "moment"), [(False, THEN), (True, NOW)], ids=["unsharded", "sharded"], indirect=["folder"]
)
def test_bodies_are_the_supervoxels_of_the_plain_layer(graph, folder, secret, moment) -> None:
    """Voxel for voxel: what TensorStore reads of the layer below, each supervoxel replaced by its root then."""
    layer, plain = opened(graph, secret, moment), open_layer(folder, reader="tensorstore")
    assert (layer.bounds, layer.voxel_size_nm, layer.dtype) == (plain.bounds, SIZE, np.uint64)
    found = layer.read(layer.bounds)
    assert np.array_equal(found.array, root_of(plain.read(plain.bounds).array, moment))
    assert np.array_equal(plain.read(plain.bounds).array, supervoxels())
    assert 20 < len(np.unique(found.array)) <= 31
    assert (found.array == 0).any()
    beyond = layer.read(Box.at((0, 0, 0), (8, 3, 14)))
    assert np.array_equal(beyond.array[5:, :, 11:], found.array[:3, 7:10, :3])
    assert not beyond.valid[:5].any()


def test_the_token_goes_to_the_graph_only_and_is_never_shown(graph, data, secret) -> None:
    """It is no credential for the bucket of the supervoxels; the moment is part of the layer's name."""
    layer = opened(graph, secret)
    layer.read(FIRST)
    assert graph.authorizations == {f"Bearer {TOKEN}"}
    assert data.authorizations <= {""}
    assert layer.url.endswith(f"/segmentation/table/bodies?timestamp={NOW}")
    assert TOKEN not in f"{layer!r} {layer.spec()}"
    again = layer_from_spec(layer.spec())
    assert np.array_equal(again.read(FIRST).array, layer.read(FIRST).array)


@pytest.mark.parametrize("graph", ["file"], indirect=True)
@pytest.mark.parametrize(
    ("status", "short", "cause"),
    [
        (401, 0, "forbidden"),
        (403, 0, "forbidden"),
        (404, 0, "unreadable"),
        (500, 0, "unreadable"),
        (200, 8, "unreadable"),
    ],
)
def test_a_graph_that_does_not_answer_is_no_background(graph, secret, status, short, cause) -> None:
    """Whatever it says: even of a sparse layer, a body that is not known is not absent."""
    layer = opened(graph, secret, sparse=True)
    graph.status, graph.short = status, short
    with pytest.raises(ChunkError) as caught:
        layer.read(FIRST)
    assert caught.value.cause == cause
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("status", "cause"), [(403, "forbidden"), (404, "missing"), (503, "unreadable")])
def test_refused_supervoxels_are_told_apart(graph, data, secret, status, cause) -> None:
    """As of any precomputed layer."""
    layer = opened(graph, secret)
    data.forget()
    data.faults["*"] = [status, ...]
    try:
        layer.read(FIRST)
    except ChunkError as error:
        assert error.cause == cause  # noqa: PT017 - those in a folder are not refused
        assert data.requests
    else:
        assert not data.requests


@pytest.mark.parametrize("graph", ["file"], indirect=True)
def test_an_unknown_table_and_a_missing_token_are_told(graph, secret, tmp_path) -> None:
    """When the layer is opened."""
    with pytest.raises(LayerError, match="the layer's metadata are missing"):
        open_layer(f"{graph.url}x?timestamp={NOW}", secrets=secret, attempts=1)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(LayerError, match="token"):
        open_layer(f"{graph.url}?timestamp={NOW}", secrets=tmp_path / "none.json", attempts=1)


def test_a_segmentation_is_opened_again_at_its_moment(graph: GraphServer, data: FaultyServer, secret: Path) -> None:
    """Its identity holds the moment and no token; so does what version 0.1 recorded of it."""
    layer = opened(graph, secret, THEN)
    identity = json.loads(json.dumps(layer.identity()))
    assert TOKEN not in json.dumps(identity)
    assert identity["url"].endswith(f"?timestamp={THEN}")
    old = {name: identity[name] for name in ("url", "voxel_size_nm", "bounds", "dtype")}
    for recorded in (identity, old):
        again = open_identity(recorded, secrets=secret, attempts=2)
        assert again.identity() == identity
        assert np.array_equal(again.read(FIRST).array, root_of(supervoxels()[:32, :32, :16], THEN))
        assert again.read(FIRST).reads == layer.read(FIRST).reads
    now = opened(graph, secret, NOW)
    assert [name for name in identity if now.identity()[name] != identity[name]] == ["url"]
