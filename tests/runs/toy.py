"""Small, fast samplers whose faults can be ordered: what tests of runs make data sets of."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from voxmint.errors import InputError
from voxmint.randomness import Stream
from voxmint.sample import Failed, Outcome, Rejected, Sample, Sampler


@dataclass(frozen=True)
class ToySampler(Sampler):
    """Noise; ``faults`` maps an index (as text) to what happens there, only once each if ``once`` names a folder.

    ``rejected`` maps an index to why it has no sample. Who makes a sample leaves its process id in the folder ``log``.
    """

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")
    length: int = 12
    seed: int = 0
    side: int = 16
    seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)
    once: str = ""
    rejected: dict[str, str] = field(default_factory=dict)
    rejects: bool = False
    batch: int = 1
    log: str = ""
    input: str = ""
    checked: str = ""

    def __len__(self) -> int:
        return self.length

    def make(self, index: int) -> Sample | Rejected:
        time.sleep(self.seconds)
        if self.log:
            (Path(self.log) / str(index)).write_text(str(os.getpid()))
        self._fault(index)
        if str(index) in self.rejected:
            record = {"place": [index, 0.5], "of": 'a "b"'}
            return Rejected(index, f"toy {index}", self.rejected[str(index)], record, self._reads(index))
        bits = np.random.Philox(key=np.array([self.seed, index], np.uint64)).random_raw(3 * self.side**3 // 8)
        values = bits.view(np.uint8).reshape(3, self.side, self.side, self.side)
        word = Stream(self.seed, index).word()
        arrays = {"img": values[:2], "seg": values[2]}
        return Sample(index, f"toy_{word:016x}", arrays, {"word": word}, self._reads(index))

    def stream(self, indices: Iterable[int]) -> Iterator[Outcome]:
        for index in sorted(indices, key=lambda index: (index * 7) % 5):
            if self.faults.get(str(index)) == "end of stream" and self._is_due(index):
                raise OSError("the stream broke off")
            try:
                yield self.make(index)
            except Exception as error:
                yield Failed(index, error)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"img": ((2, self.side, self.side, self.side), "uint8"), "seg": ((self.side,) * 3, "uint8")}

    def definition(self) -> dict[str, Any]:
        about = {"kind": "toy", "recipe": {"side": self.side, "seed": self.seed}}
        return about | ({"input": {"address": self.input, "fingerprint": "of names alone"}} if self.input else {})

    def access(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> ToySampler:
        return cls(**access)

    def check(self) -> None:
        if self.checked and Path(self.checked).read_text() != "as it was":
            raise InputError("the input changed", where=self.checked, remedy="put it back")

    def _reads(self, index: int) -> dict[str, str]:
        """Every sample reads the part of its number, and all read the part 0, of the folder ``input``."""
        if not self.input:
            return {}
        names = sorted({"0", str(index)})
        return {f"input {name}": (Path(self.input) / name).read_text() for name in names}

    def _is_due(self, index: int) -> bool:
        if self.once:
            try:
                (Path(self.once) / str(index)).touch(exist_ok=False)
            except FileExistsError:
                return False
        return True

    def _fault(self, index: int) -> None:
        fault = self.faults.get(str(index), "")
        if not fault or fault == "end of stream" or not self._is_due(index):
            return
        if fault == "input":
            raise InputError("the input is cut", where=f"input-{index}", remedy="get it again")
        if fault == "bug":
            raise ValueError("a bug of the sampler")
        if fault == "network":
            raise ConnectionResetError("the network went away")
        if fault == "segfault":
            ctypes.string_at(0)
        if fault == "exit":
            os._exit(3)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.startswith("fill "):
            with contextlib.suppress(OSError), Path(fault[5:]).open("wb", buffering=0) as ballast:
                while True:
                    ballast.write(bytes(4096))
        if fault == "sleep":
            time.sleep(60)
        if fault == "print":
            print("something on standard output")


class BackwardsToy(ToySampler):
    """Likes to be made from the last sample to the first."""

    def order(self) -> list[int]:
        return list(range(self.length))[::-1]


class MuddledToy(ToySampler):
    """Has an order that leaves out the last sample."""

    def order(self) -> list[int]:
        return [*range(self.length - 1), 0]


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory but the state of unfinished runs, by relative name."""
    files = (path for path in directory.rglob("*") if path.is_file() and ".voxmint" not in path.parts)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
