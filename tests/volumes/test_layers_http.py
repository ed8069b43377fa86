"""Layers over a local HTTP server that is slow, refuses, lacks, hiccups or breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, grey, labels, positions, precomputed
from servers import BREAK, RESET, FaultyServer, http_server

from voxmint.errors import ChunkError, LayerError
from voxmint.volumes import refused
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.opening import open_layer
from voxmint.volumes.readers import web

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")

FIRST = Box.at(OFFSET, CHUNK)
NAME = "5-37_-7-25_11-27"
READERS = pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    precomputed(f"file://{folder}/raw", positions())
    precomputed(f"file://{folder}/ids", labels(), "compressed_segmentation", sharded=True)
    precomputed(f"file://{folder}/grey", grey(), "jpeg")
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[FaultyServer]:
    with http_server(folder) as server:
        yield server


def opened(server: FaultyServer, reader: str, name: str = "raw", **options: object) -> ChunkedLayer:
    layer = open_layer(f"{server.url}/{name}", reader=reader, **options)
    assert isinstance(layer, ChunkedLayer)
    server.forget()
    return layer


@READERS
@pytest.mark.parametrize(("name", "array"), [("raw", positions()), ("ids", labels())])
def test_a_layer_over_http_equals_what_was_written(
    server: FaultyServer, reader: str, name: str, array: np.ndarray
) -> None:
    """Every voxel, sharded or not."""
    layer = opened(server, reader, name)
    assert np.array_equal(layer.read(layer.bounds).array, array)


@READERS
@pytest.mark.parametrize(("status", "cause"), [(404, "missing"), (403, "forbidden"), (401, "forbidden")])
@pytest.mark.parametrize("sparse", [False, True])
def test_missing_and_forbidden_are_told_apart_and_never_zeros(
    server: FaultyServer, reader: str, status: int, cause: str, sparse: bool
) -> None:
    """Only an absent chunk of a layer declared sparse is background; a refused one never is."""
    layer = opened(server, reader, sparse=sparse)
    server.faults[NAME] = [status, ...]
    if sparse and cause == "missing":
        cutout = layer.read(FIRST)
        assert cutout.valid.all()
        assert not cutout.array.any()
        return
    with pytest.raises(ChunkError, match=f"chunk x 5:37, y -7:25, z 11:27 is {cause}") as caught:
        layer.read(FIRST)
    assert (caught.value.box, caught.value.cause) == (FIRST, cause)
    assert f"{server.url}/raw" in str(caught.value)
    assert NAME in str(caught.value)
    assert server.requests[f"raw/4_6_40/{NAME}"] <= 2  # never hammered


@READERS
@pytest.mark.parametrize("fault", [503, 500, 429, BREAK, RESET], ids=["503", "500", "429", "broken off", "reset"])
def test_a_hiccup_is_overcome(server: FaultyServer, reader: str, fault: int) -> None:
    """Two failures of the network, then the right bytes."""
    layer = opened(server, reader)
    server.faults[NAME] = [fault, fault]
    assert np.array_equal(layer.read(FIRST).array, positions()[:32, :32, :16])


@READERS
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("status", [404, 403])
def test_what_is_missing_or_forbidden_is_not_asked_for_again(
    server: FaultyServer, reader: str, status: int, sparse: bool
) -> None:
    """However many crops touch it; a layer opened anew asks anew."""
    layer = opened(server, reader, sparse=sparse, cache_bytes=0)
    server.faults[NAME] = [status, ...]
    failed = [isinstance(found, ChunkError) for _, found in layer.read_many([FIRST] * 30, concurrency=1)]
    failed.append(isinstance(dict(layer.read_many([Box.at(OFFSET, (1, 1, 1))]))[0], ChunkError))
    assert set(failed) == {status == 403 or not sparse}
    assert server.requests[f"raw/4_6_40/{NAME}"] <= 2
    assert layer.fetched == 1
    server.faults.clear()
    assert np.array_equal(opened(server, reader).read(FIRST).array, positions()[:32, :32, :16])


def test_a_layer_remembers_only_so_many_failures(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, and asked for again."""
    monkeypatch.setattr(refused, "_MOST_REFUSED", 2)
    layer = opened(server, "tensorstore")
    server.faults["*"] = [404, ...]
    for box in layer.chunks_of(layer.bounds)[:3] * 2:
        assert isinstance(next(layer.read_many([box]))[1], ChunkError)
    assert layer.fetched == 6


@READERS
def test_what_was_unreadable_is_asked_for_again(server: FaultyServer, reader: str) -> None:
    """A failure of the network passes."""
    layer = opened(server, reader, attempts=1)
    server.faults[NAME] = [503, 503]
    failures = 0
    while isinstance(found := next(layer.read_many([FIRST]))[1], ChunkError):
        failures += 1
        assert found.cause == "unreadable"
        assert failures <= 2
    assert failures >= 1
    assert np.array_equal(found.array, positions()[:32, :32, :16])


@READERS
@pytest.mark.parametrize("fault", [503, BREAK], ids=["503", "broken off"])
def test_a_lasting_failure_is_an_error_after_bounded_retries(server: FaultyServer, reader: str, fault: int) -> None:
    """The error names chunk, cause and how often it was tried; other chunks go on."""
    layer = opened(server, reader, attempts=2)
    server.faults[NAME] = [fault, ...]
    boxes = [FIRST, FIRST.shift((32, 0, 0)), FIRST.shift((0, 32, 0))]
    results = dict(layer.read_many(boxes))
    error = results.pop(0)
    assert isinstance(error, ChunkError)
    assert error.cause == "unreadable"
    assert "tried 2 times" in str(error)
    assert server.requests[f"raw/4_6_40/{NAME}"] <= 4
    assert np.array_equal(results[1].array, positions()[32:64, :32, :16])
    assert np.array_equal(results[2].array, positions()[:32, 32:64, :16])


@READERS
def test_a_short_object_is_unreadable(folder: Path, server: FaultyServer, reader: str, tmp_path: Path) -> None:
    """A chunk whose stored bytes are cut is never padded."""
    precomputed(f"file://{tmp_path}/cut", positions())
    chunk = next(tmp_path.rglob(NAME))
    chunk.write_bytes(chunk.read_bytes()[:1000])
    server.folder = tmp_path
    with pytest.raises(ChunkError) as caught:
        opened(server, reader, "cut", attempts=1).read(FIRST)
    assert caught.value.cause == "unreadable"


@READERS
@pytest.mark.parametrize(("status", "word"), [(404, "missing"), (403, "forbidden")])
def test_missing_and_forbidden_metadata_are_told_apart(
    server: FaultyServer, reader: str, status: int, word: str
) -> None:
    """Opening says which of the two it is."""
    server.faults["info"] = [status, ...]
    with pytest.raises(LayerError, match=f"the layer's metadata are {word}"):
        open_layer(f"{server.url}/raw", reader=reader)


@pytest.mark.parametrize(("status", "cause"), [(403, "forbidden"), (404, "missing")])
@READERS
def test_a_refused_shard_is_not_an_absent_one(server: FaultyServer, reader: str, status: int, cause: str) -> None:
    """The same holds for the files of a sharded layer."""
    layer = opened(server, reader, "ids")
    server.faults["*"] = [status, ...]
    with pytest.raises(ChunkError) as caught:
        layer.read(FIRST)
    assert caught.value.cause == cause


def test_each_chunk_is_asked_for_once(server: FaultyServer) -> None:
    """Many overlapping boxes cost as many requests as they touch chunks, and none when read again."""
    layer = opened(server, "tensorstore")
    starts = [(x, y, z) for x in range(-5, 100, 17) for y in range(-20, 60, 19) for z in range(5, 50, 11)]
    boxes = [Box.at(start, (40, 30, 20)) for start in starts]
    distinct = {chunk for box in boxes for chunk in layer.chunks_of(box)}
    for number, cutout in layer.read_many(boxes):
        assert not isinstance(cutout, ChunkError)
        inside = boxes[number].intersect(layer.bounds)
        assert np.array_equal(cutout.array[inside.slices(boxes[number])], positions()[inside.slices(layer.bounds)])
    assert len(distinct) == 36
    assert sum(server.requests.values()) == len(distinct) == layer.fetched
    list(layer.read_many(boxes))
    assert sum(server.requests.values()) == len(distinct)


def test_a_small_cache_gives_the_same_bytes(server: FaultyServer) -> None:
    """The bound of the cache costs requests, never voxels."""
    layer = opened(server, "tensorstore", cache_bytes=2 * 32 * 32 * 16 * 4)
    for _ in range(2):
        assert np.array_equal(layer.read(layer.bounds).array, positions())
    assert layer.fetched > 36


@READERS
def test_many_requests_are_in_flight(server: FaultyServer, reader: str) -> None:
    """Against a slow server, at least 32 requests (8 with CloudVolume) are being answered at a time."""
    layers = [opened(server, reader) for _ in range(2)]
    server.delay_s = 0.5  # long enough for them to gather on a busy machine too
    for layer in layers:  # at first a client may hold requests back until it knows whether connections can be shared
        starts = [chunk.start for chunk in layer.chunks_of(layer.bounds)]
        list(layer.read_many([Box.at(start, (1, 1, 1)) for start in starts]))
    assert server.most_in_flight >= (32 if reader == "tensorstore" else 8)


def test_the_readers_agree_on_jpeg(server: FaultyServer) -> None:
    """Two decoders differ by at most two grey levels."""
    arrays = [opened(server, reader, "grey") for reader in ("tensorstore", "cloudvolume")]
    one, other = (layer.read(layer.bounds).array.astype(int) for layer in arrays)
    assert np.abs(one - other).max() <= 2
    assert np.abs(one - grey()).mean() < 5


def test_a_token_in_the_address_is_sent_but_never_shown(server: FaultyServer) -> None:
    """The query reaches the server; url, repr and errors are without it."""
    layer = open_layer(f"{server.url}/raw?token=verysecret", reader="tensorstore", attempts=1)
    assert set(server.queries) == {"token=verysecret"}
    server.faults[NAME] = [503, ...]
    with pytest.raises(ChunkError) as caught:
        layer.read(FIRST)
    for text in (str(caught.value), repr(caught.value), layer.url, repr(layer)):
        assert "verysecret" not in text
    server.faults = {"info": [403, ...]}
    with pytest.raises(LayerError) as refused:
        open_layer(f"{server.url}/raw?token=verysecret", reader="tensorstore", attempts=1)
    assert "verysecret" not in str(refused.value)
    assert layer.bounds.shape == SHAPE


@READERS
def test_a_user_and_password_of_a_secrets_file_are_sent(server: FaultyServer, tmp_path: Path, reader: str) -> None:
    """As the header that HTTP has for them; the layer's spec names the file and not what it holds."""
    (tmp_path / "secret.json").write_text('{"user": "me", "password": "hunter22"}')
    layer = open_layer(f"{server.url}/raw", reader=reader, secrets=tmp_path / "secret.json")
    layer.read(FIRST)
    assert server.authorizations == {"Basic bWU6aHVudGVyMjI="}
    assert "hunter22" not in f"{layer.spec()} {layer!r}"
    assert str(tmp_path / "secret.json") in str(layer.spec())


@READERS
def test_a_secret_quoted_by_the_server_is_not_shown(server: FaultyServer, tmp_path: Path, reader: str) -> None:
    """A failing address that holds the secret does not reach the message."""
    (tmp_path / "secret.json").write_text('{"user": "me", "password": "hunter22"}')
    (server.folder / "hunter22").mkdir(exist_ok=True)
    with pytest.raises(LayerError) as caught:
        open_layer(f"{server.url}/hunter22", reader=reader, secrets=tmp_path / "secret.json")
    assert "hunter22" not in str(caught.value.got)


def test_a_server_that_does_not_answer_is_given_up(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt has its time; the chunk is unreadable then, and others can be read once there are answers."""
    monkeypatch.setattr(web, "ATTEMPT_S", 0.2)
    layer = open_layer(f"{server.url}/raw", reader="tensorstore", attempts=1)
    server.delay_s = 1.0
    with pytest.raises(ChunkError, match="no answer within") as caught:
        layer.read(FIRST)
    assert caught.value.cause == "unreadable"
    server.delay_s = 0.0
    last = Box(tuple(n - 1 for n in layer.bounds.stop), layer.bounds.stop)
    assert layer.read(last).array.item() == positions()[-1, -1, -1]
