"""What all sources of templates share: each is a sampler whose sample `i` holds the packed templates of item `i`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

from voxmint.errors import InputError, UnusableFilesError
from voxmint.nifti.memory import memory_told
from voxmint.sample import JSON, Layout, Sample, Sampler
from voxmint.templates.packing import Template
from voxmint.templates.reading import files_fingerprint

UNUSABLE = "mend or replace them, or leave them out: --skip-unusable"


class TemplateSource(Sampler):
    """A sampler of templates.

    The arrays of a sample are ``<template name>/words`` (uint64, see `packing`); its record lists the templates in
    order, with everything else known of them. `templates_of` puts both together again.
    """

    @property
    def folder(self) -> Path:
        """The folder that files are named relative to."""
        return Path()

    @abstractmethod
    def key(self, index: int) -> str:
        """Return the name of item ``index``, usable as part of a file name."""

    skip_unusable: bool = False
    """Whether files that cannot be used are left out and listed in the record, rather than an error."""

    @abstractmethod
    def templates(self, index: int, reads: dict[str, str], unusable: dict[str, str]) -> list[Template]:
        """Read or make the templates of item ``index``; none if all its masks are empty.

        Parameters
        ----------
        index : int
            Of the item.
        reads : dict of str to str
            To be filled: each file that was read, by its path within the source, with the start of its SHA-256.
        unusable : dict of str to str
            To be filled: each file that cannot be used, with the reason.
        """

    def make(self, index: int) -> Sample:
        """Return the packed templates of item ``index``.

        Raises
        ------
        UnusableFilesError
            Some of its files cannot be used; all are listed.
        """
        reads, unusable = dict[str, str](), dict[str, str]()
        with memory_told(self.key(index)):
            templates = self.templates(index, reads, unusable)
        arrays = {f"{template.name}/words": template.words for template in templates}
        record: JSON = {"templates": [_record_of(template) for template in templates]}
        if unusable:
            listed = dict(sorted(unusable.items()))
            if not self.skip_unusable:
                lines = "\n".join(f"{self.folder / name}: {why}" for name, why in listed.items())
                raise UnusableFilesError("files that cannot be used", where=self.key(index), got=lines, remedy=UNUSABLE)
            record["unusable"] = listed
        return Sample(index, self.key(index), arrays, record, reads)

    def layout(self) -> Layout:
        """Return nothing: every item has its own arrays."""
        return {}


class FileSource(TemplateSource):
    """Templates from label files.

    Parameters
    ----------
    root : path
        Where they lie.
    licence : str, optional
        Terms of use to record.
    """

    tries_all: ClassVar[bool] = True
    kind: ClassVar[str]
    """Its name in definitions."""
    root: Path
    licence: str

    @abstractmethod
    def __init__(self, root: str | Path, licence: str | None = None) -> None: ...

    @abstractmethod
    def files(self) -> Iterator[Path]:
        """Yield all label files in order."""

    @property
    def folder(self) -> Path:
        """The folder that files are named relative to."""
        return self.root if self.root.is_dir() else self.root.parent

    def definition(self) -> JSON:
        """Return kind, number of items, place, and a fingerprint of the files' names and sizes."""
        return {"generator": self.generator, "templates": self.kind, "licence": self.licence,
                "tree": {"count": len(self), "fingerprint": files_fingerprint(self.folder, self.files()),
                         "address": str(self.root.absolute())}}  # fmt: skip

    def access(self) -> JSON:
        """Return whether files that cannot be used are left out."""
        return {"skip_unusable": self.skip_unusable}

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build from a definition; of a finished bank, whose records say which files were left out, unless told.

        Raises
        ------
        InputError
            Files were added, removed, or changed in size.
        """
        items = definition.get("items", definition.get("subjects"))
        about = definition.get("tree") or {"count": items, "fingerprint": definition["fingerprint"]}  # version 0.1
        place = access.get("templates") or about.get("address")
        if place is None or ("templates" not in access and not Path(place).exists()):
            raise InputError("the label files of this bank lie elsewhere", where=place,
                             remedy="name them: --templates")  # fmt: skip
        source = cls(place, definition["licence"])
        source.skip_unusable = bool(access.get("skip_unusable", True))
        found = source.definition()["tree"]
        if (found["count"], found["fingerprint"]) != (about["count"], about["fingerprint"]):
            raise InputError("the label files changed since the bank was begun", where=source.root,
                             expected=f"{about['count']:,} items, fingerprint {about['fingerprint']}",
                             got=f"{found['count']:,} items, fingerprint {found['fingerprint']}",
                             remedy="put them back as they were, or make another bank")  # fmt: skip
        return source


def templates_of(sample: Sample) -> list[Template]:
    """Return the templates that a sample of a `TemplateSource` holds, in order."""
    return [_template_of(record, sample) for record in sample.record["templates"]]


def _record_of(template: Template) -> dict[str, Any]:
    # asdict copies arrays: cheap here, and the words are dropped at once
    values = asdict(template)
    del values["words"]
    return values | {"shape": list(template.shape), "voxel_size_mm": list(template.voxel_size_mm)}


def _template_of(record: JSON, sample: Sample) -> Template:
    ni, nj, nk = record["shape"]
    x, y, z = record["voxel_size_mm"]
    words = sample.arrays[f"{record['name']}/words"]
    return Template(**{**record, "words": words, "shape": (ni, nj, nk), "voxel_size_mm": (x, y, z)})
