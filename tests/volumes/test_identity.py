"""What a layer says it is: the same wherever it is opened, another when anything that decides voxels or place is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from layer_making import CHUNK, OFFSET, SHAPE, SIZE, chunked_array, labels, positions, precomputed
from servers import http_server

from voxmint.errors import LayerError
from voxmint.nifti.files import write_nifti
from voxmint.sample import JSON
from voxmint.volumes.identity import differences
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_identity, open_layer

pytest.importorskip("tensorstore", reason="needs voxmint[cloud]")
pytest.importorskip("cloudvolume", reason="needs voxmint[cloud]")
tifffile = pytest.importorskip("tifffile", reason="needs voxmint[formats]")

PLACED: JSON = {"voxel_size_nm": (4, 6, 40.5), "offset": (3, -2, 7)}
OLD = ("url", "voxel_size_nm", "bounds", "dtype")
"""What version 0.1 recorded of a layer."""


def two_scales(folder: Path) -> str:
    """Write a precomputed layer with a second, coarser scale."""
    from cloudvolume import CloudVolume

    url = precomputed(f"file://{folder}", positions())
    volume = CloudVolume(url, progress=False, compress=False)
    volume.add_scale((2, 2, 1))
    volume.commit_info()
    coarse = CloudVolume(url, mip=1, progress=False, compress=False)
    coarse[coarse.bounds] = positions(shape=tuple(coarse.shape[:3]))
    return url


def hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(("volumes/raw", "volumes/other")):
            file.create_dataset(name, data=positions(np.uint16).T + number, chunks=(8, 16, 32))
    return path


def kinds() -> dict[str, Callable[[Path], tuple[str, JSON]]]:
    """Return, by name, what writes a layer into a folder and how it is opened: all kinds that are files."""

    def npy(folder: Path) -> tuple[str, JSON]:
        np.save(folder / "a%41 b#c?.npy", positions())
        return str(folder / "a%41 b#c?.npy"), {**PLACED, "axes": "xyz"}

    def nifti(folder: Path) -> tuple[str, JSON]:
        write_nifti(folder / "a.nii.gz", positions(), np.diag([3.6e-6, 4e-6, 3e-5, 1]))
        return str(folder / "a.nii.gz"), {"offset": (1, 2, 3)}

    def tiff(folder: Path) -> tuple[str, JSON]:
        tifffile.imwrite(folder / "a.tif", positions(np.uint8).T, photometric="minisblack")
        return str(folder / "a.tif"), PLACED

    def pages(folder: Path) -> tuple[str, JSON]:
        for z, page in enumerate(positions(np.uint8).T[:5]):
            tifffile.imwrite(folder / f"slice_{z}.tif", page)
        return str(folder), PLACED

    def chunked(driver: str) -> Callable[[Path], tuple[str, JSON]]:
        options = {} if driver == "n5" else PLACED
        return lambda folder: (f"{driver}://{chunked_array(driver, folder / 'group/s0', positions()).parent}",
                               {**options, "dataset": "s0"})  # fmt: skip

    return {
        "precomputed": lambda folder: (precomputed(f"file://{folder}/layer", positions()), {}),
        "sharded": lambda folder: (precomputed(f"file://{folder}/layer", labels(), sharded=True), {}),
        "coarse": lambda folder: (two_scales(folder / "layer"), {"mip": 1}),
        "cloudvolume": lambda folder: (precomputed(f"file://{folder}/layer", labels()), {"reader": "cloudvolume"}),
        "hdf5": lambda folder: (str(hdf5(folder / "a.h5")), {**PLACED, "dataset": "volumes/other", "axes": "xzy"}),
        "npy": npy, "nifti": nifti, "tiff": tiff, "pages": pages,
        **{driver: chunked(driver) for driver in ("zarr", "zarr3", "n5")},
    }  # fmt: skip


@pytest.fixture(params=list(kinds()))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, JSON]:
    return kinds()[request.param](tmp_path)


def same_voxels(one: Layer, other: Layer) -> bool:
    return bool((one.read(one.bounds).array == other.read(other.bounds).array).all()) and one.bounds == other.bounds


def recorded(layer: Layer) -> JSON:
    """Return the identity as a recipe gives it back."""
    found: JSON = json.loads(json.dumps(layer.identity()))
    return found


def test_every_kind_is_opened_again_by_what_it_says_it_is(made: tuple[str, JSON]) -> None:
    """Same voxels at the same place, and the same identity: scale, data set, axes, voxel size and offset included."""
    source, options = made
    layer = open_layer(source, **options)
    again = open_identity(recorded(layer))
    assert again.identity() == layer.identity()
    assert same_voxels(again, layer)


def test_an_identity_of_version_0_1_is_opened_and_its_fields_are_compared(tmp_path: Path) -> None:
    """It had no format, data set or metadata: what it lacks is not compared, what it has is."""
    layer = open_layer(precomputed(f"file://{tmp_path}/layer", positions()))
    old = {name: value for name, value in recorded(layer).items() if name in OLD}
    assert list(old) == list(OLD)
    assert same_voxels(open_identity(old), layer)
    np.save(tmp_path / "a.npy", positions())
    plain = open_layer(tmp_path / "a.npy", **PLACED)
    old = {name: value for name, value in recorded(plain).items() if name in OLD}
    assert open_identity(old).identity() == plain.identity()
    with pytest.raises(LayerError, match="differs in dtype"):
        open_identity(old | {"dtype": "uint16"})


def test_the_identity_is_the_same_from_another_process_and_folder(
    made: tuple[str, JSON], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of this process or its folder is in it."""
    source, options = made
    if Path(source).is_absolute():
        monkeypatch.chdir(Path(source).parent)
        source = Path(source).name
    identity = open_layer(source, **options).identity()
    program = ("import json, sys; from voxmint.volumes.opening import open_identity;"
               "print(json.dumps(open_identity(json.loads(sys.argv[1])).identity()))")  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    found = subprocess.run([sys.executable, "-c", program, json.dumps(identity)], cwd=tmp_path / "elsewhere",
                           check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert json.loads(found) == identity


@pytest.mark.parametrize("sharded", [False, True])
def test_both_readers_say_the_same_of_a_layer(tmp_path: Path, sharded: bool) -> None:
    """All but who reads it; and of the voxels, too."""
    url = precomputed(f"file://{tmp_path}/layer", labels(), "compressed_segmentation", sharded=sharded)
    one, other = (open_layer(url, reader=reader) for reader in ("tensorstore", "cloudvolume"))
    found = list(differences(one.identity(), other.identity()))
    assert found == [("reader", "tensorstore", "cloudvolume")]
    assert one.read(one.bounds).reads == other.read(other.bounds).reads


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"voxel_offset": [6, -7, 11]}, {"bounds", "metadata"}),
        ({"resolution": [4, 6, 41]}, {"voxel_size_nm", "metadata"}),
        ({"key": "elsewhere"}, {"metadata"}),
        ({"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}, {"metadata"}),
        ({"data_type": "int32"}, {"dtype", "metadata"}),
        ({"mesh": "meshes"}, set()),
        ({"resolution": [4.0, 6.0, 40.0]}, set()),
    ],
)
@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_whatever_decides_voxels_or_place_of_a_precomputed_layer_is_in_it(
    tmp_path: Path, change: JSON, fields: set[str], reader: Any
) -> None:
    """The scale and the type; not what belongs to meshes, nor how a number is written. The error names the fields."""
    layer = open_layer(precomputed(f"file://{tmp_path}/layer", positions()), reader=reader)
    path = tmp_path / "layer/info"
    info = json.loads(path.read_text())
    for name, value in change.items():
        (info if name in ("data_type", "mesh") else info["scales"][0])[name] = value
    path.write_text(json.dumps(info))
    now = open_layer(f"file://{tmp_path}/layer", reader=reader)
    assert {field for field, *_ in differences(layer.identity(), now.identity())} == fields
    if not fields:
        open_identity(recorded(layer))
        return
    with pytest.raises(LayerError) as caught:
        open_identity(recorded(layer))
    assert layer.url in str(caught.value)
    assert all(field in str(caught.value) for field in fields)


@pytest.mark.parametrize("reader", ["tensorstore", "cloudvolume"])
def test_each_scale_is_a_layer_of_its_own(tmp_path: Path, reader: Any) -> None:
    """What changes at another scale changes nothing at this one."""
    url = two_scales(tmp_path / "layer")
    before = [open_layer(url, reader=reader, mip=mip).identity() for mip in (0, 1)]
    assert before[0]["metadata"] != before[1]["metadata"]
    info = json.loads((tmp_path / "layer/info").read_text())
    info["scales"][1]["key"] = "elsewhere"
    (tmp_path / "layer/info").write_text(json.dumps(info))
    after = [open_layer(url, reader=reader, mip=mip).identity() for mip in (0, 1)]
    assert after[0] == before[0]
    assert [field for field, *_ in differences(before[1], after[1])] == ["metadata"]


def test_other_data_sets_and_axes_of_one_file_are_other_layers(tmp_path: Path) -> None:
    """Even where shape and type are the same."""
    path = hdf5(tmp_path / "a.h5")
    raw, other, turned = (
        open_layer(path, dataset=name, axes=axes, **PLACED)
        for name, axes in (("volumes/raw", "zyx"), ("/volumes/other", "zyx"), ("volumes/raw", "zxy"))
    )
    assert list(differences(raw.identity(), other.identity())) == [("dataset", "volumes/raw", "volumes/other")]
    assert {field for field, *_ in differences(raw.identity(), turned.identity())} == {"axes", "bounds"}


def test_a_data_set_that_was_replaced_is_named(tmp_path: Path) -> None:
    """The file is there, the data set of that name is another one."""
    layer = open_layer(hdf5(tmp_path / "a.h5"), dataset="volumes/raw", **PLACED)
    layer.close()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["volumes/raw"]
        file["volumes/raw"] = positions(np.uint8).T
    with pytest.raises(LayerError, match=r"a\.h5: .*differs in dtype, metadata"):
        open_identity(recorded(layer))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["volumes/raw"]
    with pytest.raises(LayerError, match="no such dataset"):
        open_identity(recorded(layer))


def test_headers_of_plain_files_are_in_it(tmp_path: Path) -> None:
    """Where two files have one grid: another origin or scaling of NIfTI, another byte order, more pages."""
    import nibabel as nib

    array, affine = positions(np.int16, (6, 5, 4)), np.diag([4e-6, 4e-6, 3e-5, 1])

    def nifti(origin: float, slope: float) -> Layer:
        image = nib.Nifti1Image(array, affine + origin * np.eye(4, k=3))
        image.header.set_slope_inter(slope, 1)
        nib.save(image, tmp_path / "a.nii")
        return open_layer(tmp_path / "a.nii")

    def npy(dtype: str) -> Layer:
        np.save(tmp_path / "a.npy", array.astype(dtype))
        return open_layer(tmp_path / "a.npy", **PLACED)

    def tiff(pages: int) -> Layer:
        tifffile.imwrite(tmp_path / "a.tif", array.T[:pages], photometric="minisblack")
        return open_layer(tmp_path / "a.tif", **PLACED)

    pairs = [(nifti(0, 2), nifti(1, 2)), (nifti(0, 2), nifti(0, 3)), (npy("<i2"), npy(">i2")), (tiff(3), tiff(4))]
    found = [[field for field, *_ in differences(a.identity(), b.identity())] for a, b in pairs]
    assert found == [["metadata"]] * 3 + [["bounds", "metadata"]]


@pytest.mark.parametrize("driver", ["zarr", "zarr3", "n5"])
def test_notes_beside_an_array_do_not_make_it_another_one(tmp_path: Path, driver: str) -> None:
    """What says where it lies does."""
    chunked_array(driver, tmp_path / "array", positions())
    size = {} if driver == "n5" else {"voxel_size_nm": SIZE}
    layer = open_layer(f"{driver}://{tmp_path}/array", **size)
    path = tmp_path / "array" / {"zarr": ".zattrs", "zarr3": "zarr.json", "n5": "attributes.json"}[driver]

    def noted(**values: object) -> None:
        document = json.loads(path.read_text()) if path.exists() else {}
        (document.setdefault("attributes", {}) if driver == "zarr3" else document).update(values)
        path.write_text(json.dumps(document))

    noted(history="looked at")
    open_identity(recorded(layer))
    noted(offset=[1, 2, 3], resolution=[40, 6, 5])
    with pytest.raises(LayerError, match=r"differs in .*metadata"):
        open_identity(recorded(layer))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    precomputed(f"file://{folder}/precomputed/s0", positions())
    for driver in ("zarr", "zarr3", "n5"):
        chunked_array(driver, folder / driver / "s0", positions())
    with http_server(folder) as server:
        yield server.url


@pytest.mark.parametrize("fmt", ["precomputed", "zarr", "zarr3", "n5"])
def test_layers_over_http_are_opened_again(served: str, fmt: str) -> None:
    """Their format and data set are known, and no password or token is recorded."""
    options = {"voxel_size_nm": SIZE, "offset": OFFSET} if fmt.startswith("zarr") else {}
    login = served.replace("://", "://user:secretword@")
    layer = open_layer(f"{fmt}://{login}/{fmt}?token=secretword", dataset="s0", **options)
    assert "secretword" not in json.dumps(layer.identity())
    again = open_identity(recorded(layer))
    assert again.identity() == layer.identity()
    assert same_voxels(again, layer)


def test_a_layer_that_moved_is_known_again(tmp_path: Path) -> None:
    """Where it lies is not what it is, if the user says where it lies."""
    layer = open_layer(precomputed(f"file://{tmp_path}/one", positions()))
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(LayerError, match="nothing here"):
        open_identity(recorded(layer))
    moved = open_identity(recorded(layer), source=tmp_path / "two")
    assert [field for field, *_ in differences(layer.identity(), moved.identity())] == ["url"]
    assert moved.bounds.start == OFFSET
    assert moved.chunk_shape == CHUNK
    assert moved.bounds.shape == SHAPE


def test_an_array_in_memory_says_what_it_is_but_cannot_be_opened_again() -> None:
    """In words."""
    layer = open_layer(positions(), voxel_size_nm=SIZE)
    with pytest.raises(LayerError, match="in memory cannot be opened again"):
        open_identity(recorded(layer))
