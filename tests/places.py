"""Small samplers for tests of training: what they make tells how it was moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from voxmint.sample import Rejected, Sample, Sampler

SHAPE = (4, 6, 6)


@dataclass(frozen=True)
class Places(Sampler):
    """Every voxel of the image tells its place; the masks are functions of the image, so that both must move alike."""

    arrays: ClassVar[tuple[str, ...]] = ("source", "seed", "target", "valid")
    length: int = 6
    shape: tuple[int, int, int] = SHAPE
    without: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.length

    def make(self, index: int) -> Sample | Rejected:
        if index in self.without:
            return Rejected(index, f"{index}", f"no mask at row {index}")
        if index in self.fails:
            raise ConnectionResetError("the network went away")
        source = ((np.arange(np.prod(self.shape)) * 5 + index) % 256).astype(np.uint8).reshape(self.shape)
        target = target_of(source)
        return Sample(
            index,
            f"{index}",
            {"source": source, "seed": seed_of(source), "target": target, "valid": np.ones_like(source)},
        )

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {name: (self.shape, "uint8") for name in self.arrays}

    def definition(self) -> dict[str, Any]:
        return {"kind": "places"}

    def access(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> Places:
        return cls(access["length"], tuple(access["shape"]), tuple(access["without"]), tuple(access["fails"]))


@dataclass(frozen=True)
class Pairs(Places):
    """Two views of constant grey, and labels."""

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")

    def make(self, index: int) -> Sample | Rejected:
        img = np.full((2, *self.shape), index, np.uint8)
        img[1] += 100
        return Sample(index, str(index), {"img": img, "seg": np.full(self.shape, 200 + index, np.uint8)})

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"img": ((2, *self.shape), "uint8"), "seg": (self.shape, "uint8")}


def target_of(source: Any) -> Any:
    return (source > 100).astype(np.uint8)


def seed_of(source: Any) -> Any:
    return ((source > 100) & (source % 3 == 0)).astype(np.uint8)
