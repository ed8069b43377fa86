"""What all sources of templates share: each is a sampler whose sample `i` holds the packed templates of item `i`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, ClassVar, Self

from voxmint.sample import JSON, Sample
from voxmint.templates.packing import Template


class TemplateSource(ABC):
    """A sampler of templates.

    The arrays of a sample are ``<template name>/words`` (uint64, see `packing`); its record lists the templates in
    order, with everything else known of them. `templates_of` puts both together again.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    type_name: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int:
        """Return how many items there are."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Return the name of item ``index``, usable as part of a file name."""

    @abstractmethod
    def templates(self, index: int) -> list[Template]:
        """Read or make the templates of item ``index``; none if all its masks are empty."""

    @abstractmethod
    def parameters(self) -> JSON:
        """Return the arguments that build an equal source."""

    @abstractmethod
    def definition(self) -> JSON:
        """Return all that defines the templates."""

    def __getitem__(self, index: int) -> Sample:
        """Return the packed templates of item ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        templates = self.templates(index)
        arrays = {f"{template.name}/words": template.words for template in templates}
        return Sample(index, self.key(index), arrays, {"templates": [_record_of(template) for template in templates]})

    def stream(self, indices: Iterable[int]) -> Iterator[Sample]:
        """Yield the samples in the order asked for."""
        return (self[index] for index in indices)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return nothing: every item has its own arrays."""
        return {}

    def spec(self) -> JSON:
        """Return JSON from which `from_spec` builds an equal source in another process on this machine."""
        return {"type": self.type_name, **self.parameters()}

    @classmethod
    def from_spec(cls, spec: JSON) -> Self:
        """Build the source that `spec` describes."""
        return cls(**{name: value for name, value in spec.items() if name != "type"})


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
