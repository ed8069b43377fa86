"""Samplers of pairs opened from what was recorded: each refuses other inputs than those that it was made from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxmint.errors import InputError, TemplateBankError
from voxmint.generators import open_remote, open_sampler, remote
from voxmint.nifti.files import write_nifti
from voxmint.pairs.naming import VIEW_NAMES
from voxmint.pairs.recipe import EnsembleRecipe, ViewRecipe
from voxmint.pairs.sampler import EnsembleSampler
from voxmint.pairs.stages import PackSampler, ViewSampler, label_files, matching_views
from voxmint.sample import Sampler
from voxmint.templates.bank import TemplateBank
from voxmint.templates.packing import Template, pack
from voxmint.templates.writing import write_bank

RECIPE = EnsembleRecipe(side=16, min_templates=2, max_templates=3)
Damage = Callable[[Path], object]


def recorded(sampler: Sampler) -> dict[str, Any]:
    """Return a definition as it comes back from a file."""
    return dict(json.loads(json.dumps(sampler.definition())))


@pytest.fixture
def copy(bank: TemplateBank, tmp_path: Path) -> Path:
    """Hold a bank that may be damaged."""
    return Path(shutil.copy(bank.path, tmp_path / "copy.bank"))


def flip(path: Path) -> None:
    """Change one bit of a word, and give the file its old times."""
    about, data = path.stat(), bytearray(path.read_bytes())
    words = TemplateBank.open(path).words(0).tobytes()
    data[data.index(words)] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace(path: Path) -> None:
    """Put a whole bank of other shapes in the place of one."""
    words, shape = pack(np.ones((5, 6, 7), np.bool_))
    write_bank(path, [Template(f"other{n}", words, shape, 210) for n in range(9)])


def test_a_bank_is_opened_by_its_fingerprint(copy: Path, tmp_path: Path) -> None:
    """From where it was, or from where it is now: the ensembles are the same; nowhere, the flag is asked for."""
    sampler = EnsembleSampler(RECIPE, copy, seed=3, count=2)
    definition = recorded(sampler)
    again = open_sampler(definition, {"count": 2})
    assert again.definition() == definition
    assert [again[n].digest() for n in range(2)] == [sampler[n].digest() for n in range(2)]
    moved = copy.rename(tmp_path / "moved.bank")
    with pytest.raises(TemplateBankError, match="lie elsewhere") as caught:
        open_sampler(definition, {})
    assert caught.value.where == str(copy)
    assert "--templates" in str(caught.value.remedy)
    assert open_sampler(definition, {"templates": str(moved)})[1].digest() == again[1].digest()


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize(("change", "what"), [(flip, "bank is damaged"), (replace, "another template bank")])
def test_other_content_is_refused(copy: Path, change: Damage, what: str, stamped: bool) -> None:
    """A flipped word, which the bank's own index does not tell, and another bank: also in a process of the command."""
    sampler = EnsembleSampler(RECIPE, copy, seed=3)
    if stamped:
        sampler.check()
    job = json.loads(json.dumps(remote(sampler)))
    assert (job["access"]["stamp"] is not None) == stamped
    open_remote(job)
    change(copy)
    for opened in (lambda: open_remote(job), lambda: open_sampler(job["definition"], {})):
        with pytest.raises(TemplateBankError, match=what) as caught:
            opened()
        assert caught.value.where == copy


def test_a_stamp_vouches_for_the_bytes_while_the_file_is_untouched(copy: Path) -> None:
    """Given the stamp of the file as it is, no byte is read again; what opening read is not read a second time."""
    definition = recorded(EnsembleSampler(RECIPE, copy))
    flip(copy)
    now = TemplateBank.open(copy).stamp
    opened = open_sampler(definition, {"stamp": now})
    opened.check()
    os.utime(copy)
    with pytest.raises(TemplateBankError, match="bank is damaged"):
        opened.check()
    with pytest.raises(TemplateBankError, match="bank is damaged"):
        open_sampler(definition, {"stamp": now})


def test_a_stamp_does_not_vouch_for_another_fingerprint(copy: Path) -> None:
    """A bank that was proven whole is still not the one that the samples are made of."""
    definition = recorded(EnsembleSampler(RECIPE, copy))
    replace(copy)
    with pytest.raises(TemplateBankError, match="another template bank"):
        open_sampler(definition, {"stamp": TemplateBank.open(copy).stamp})


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Path]:
    """Hold folders of two label volumes and of their views."""
    random = np.random.default_rng(0)
    folders = {name: tmp_path / name for name in ("ensembles", "views")}
    for folder in (folders["ensembles"], *(folders["views"] / name for name in VIEW_NAMES)):
        folder.mkdir(parents=True)
    for name in "ab":
        write_nifti(folders["ensembles"] / f"{name}.nii.gz", random.integers(0, 4, (12, 9, 8), dtype=np.uint8))
        for view in VIEW_NAMES:
            volume = random.integers(0, 256, (12, 9, 8), dtype=np.uint8)
            write_nifti(folders["views"] / view / f"{view}_{name}.nii.gz", volume)
    return folders


def made(kind: str, stages: dict[str, Path]) -> Sampler:
    files = label_files(stages["ensembles"])
    if kind == "views":
        return ViewSampler(files, ViewRecipe(texture_spacing=()), seed=5)
    return PackSampler(matching_views(files, [stages["views"] / name for name in VIEW_NAMES]))


KINDS = [("views", ["ensembles"]), ("pack", ["ensembles", "views"])]


@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_a_stage_is_opened_from_its_definition(
    kind: str, inputs: list[str], stages: dict[str, Path], tmp_path: Path
) -> None:
    """With nothing given, from where its files were; elsewhere with each folder named, and asked for until then."""
    sampler = made(kind, stages)
    definition, digests = recorded(sampler), [sample.digest() for sample in sampler]
    again = open_sampler(definition, {})
    assert again.definition() == definition
    assert [sample.digest() for sample in again] == digests
    given = {name: str(shutil.copytree(stages[name], tmp_path / "copies" / name)) for name in inputs}
    copied = open_sampler(definition, given)
    assert [sample.digest() for sample in copied] == digests
    assert copied.definition() != definition
    access: dict[str, str] = {}
    for name in inputs:
        shutil.rmtree(stages[name])
        with pytest.raises(InputError, match=f"the {name} .* lie elsewhere") as caught:
            open_sampler(definition, access)
        assert f"--{name}" in str(caught.value.remedy)
        access[name] = given[name]
    assert [sample.digest() for sample in open_sampler(definition, access)] == digests


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("kind", "inputs"), KINDS)
def test_other_files_of_a_stage_are_refused(
    kind: str, inputs: list[str], there: bool, stages: dict[str, Path], tmp_path: Path
) -> None:
    """One of another size or one more, where the files were or in the folders given."""
    definition = recorded(made(kind, stages))
    for number, name in enumerate(inputs):
        places = {other: shutil.copytree(stages[other], tmp_path / f"{number}" / other) for other in inputs}
        if there:
            definition = recorded(made(kind, {**stages, **places}))
        given = {} if there else {other: str(place) for other, place in places.items()}
        open_sampler(definition, given)
        path = next(places[name].rglob("*b.nii.gz"))
        write_nifti(path, np.zeros((12, 9, 8), np.uint8))
        with pytest.raises(InputError, match="not the files that the data set was made from") as caught:
            open_sampler(definition, given)
        assert caught.value.remedy
    extra = {other: shutil.copytree(stages[other], tmp_path / "more" / other) for other in stages}
    for path in [*extra["ensembles"].glob("a.nii.gz"), *extra["views"].rglob("*_a.nii.gz")]:
        shutil.copy(path, path.with_name(path.name.replace("a.nii.gz", "c.nii.gz")))
    with pytest.raises(InputError, match="not the files that the data set was made from") as caught:
        open_sampler(definition, {other: str(extra[other]) for other in inputs})
    assert "2 files" in str(caught.value.expected) or "6 files" in str(caught.value.expected)
