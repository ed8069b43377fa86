"""Small samplers for tests of training: what they make tells how it was moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from voxmint.errors import FailedSample, RejectedSample
from voxmint.sample import Sample

SHAPE = (4, 6, 6)


@dataclass(frozen=True)
class Places:
    """Every voxel of the image tells its place; the masks are functions of the image, so that both must move alike."""

    arrays: ClassVar[tuple[str, ...]] = ("source", "seed", "target", "valid")
    length: int = 6
    shape: tuple[int, int, int] = SHAPE
    rejects: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index in self.rejects:
            raise RejectedSample(f"no mask at row {index}")
        if index in self.fails:
            raise ConnectionResetError("the network went away")
        source = ((np.arange(np.prod(self.shape)) * 5 + index) % 256).astype(np.uint8).reshape(self.shape)
        target = target_of(source)
        return Sample(
            index,
            f"{index}",
            {"source": source, "seed": seed_of(source), "target": target, "valid": np.ones_like(source)},
        )

    def stream(self, indices: Iterable[int]) -> Iterator[Any]:
        for index in indices:
            try:
                yield self[index]
            except RejectedSample as error:
                error.index = index
                yield error
            except ConnectionResetError as error:
                yield FailedSample(index, error)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {name: (self.shape, "uint8") for name in self.arrays}

    def definition(self) -> dict[str, Any]:
        return {"kind": "places"}

    def spec(self) -> dict[str, Any]:
        return {"type": f"{type(self).__module__}:{type(self).__name__}", **asdict(self)}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Places:
        return cls(spec["length"], tuple(spec["shape"]), tuple(spec["rejects"]), tuple(spec["fails"]))


@dataclass(frozen=True)
class Pairs(Places):
    """Two views of constant grey, and labels."""

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")

    def __getitem__(self, index: int) -> Sample:
        img = np.full((2, *self.shape), index, np.uint8)
        img[1] += 100
        return Sample(index, str(index), {"img": img, "seg": np.full(self.shape, 200 + index, np.uint8)})

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"img": ((2, *self.shape), "uint8"), "seg": (self.shape, "uint8")}


def target_of(source: Any) -> Any:
    return (source > 100).astype(np.uint8)


def seed_of(source: Any) -> Any:
    return ((source > 100) & (source % 3 == 0)).astype(np.uint8)
