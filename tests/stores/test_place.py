"""A folder as a place for objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxmint.errors import StorageError
from voxmint.stores.place import Place


def test_what_is_being_written_is_no_object_yet(tmp_path: Path) -> None:
    """Both ways to go through a folder name the same objects; a draft beside one is none of them."""
    for name in ("a/one.npy", "a/b/two.npy", "three", "a/.one.npy.12-ab.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    place = Place(tmp_path)
    assert sorted(place.walk()) == place.list() == ["a/b/two.npy", "a/one.npy", "three"]
    assert sorted(place.walk("a")) == place.list("a") == ["a/b/two.npy", "a/one.npy"]
    assert place.sizes() == dict.fromkeys(place.list(), 1)


def test_what_is_not_there_is_told_as_that(tmp_path: Path) -> None:
    """The remedy is another name, not another try."""
    with pytest.raises(StorageError) as told:
        Place(tmp_path).read("nowhere")
    assert told.value.remedy == "correct the name"
