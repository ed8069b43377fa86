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

from voxmint.errors import FailedSample, InputError, RejectedSample
from voxmint.randomness import Stream
from voxmint.sample import Sample


@dataclass(frozen=True)
class ToySampler:
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

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        time.sleep(self.seconds)
        if self.log:
            (Path(self.log) / str(index)).write_text(str(os.getpid()))
        self._fault(index)
        if str(index) in self.rejected:
            rejected = RejectedSample(self.rejected[str(index)])
            rejected.index, rejected.key, rejected.record = (
                index,
                f"toy {index}",
                {"place": [index, 0.5], "of": 'a "b"'},
            )
            raise rejected
        bits = np.random.Philox(key=np.array([self.seed, index], np.uint64)).random_raw(3 * self.side**3 // 8)
        values = bits.view(np.uint8).reshape(3, self.side, self.side, self.side)
        word = Stream(self.seed, index).word()
        return Sample(index, f"toy_{word:016x}", {"img": values[:2], "seg": values[2]}, {"word": word})

    def stream(self, indices: Iterable[int]) -> Iterator[Sample | RejectedSample | FailedSample]:
        for index in sorted(indices, key=lambda index: (index * 7) % 5):
            if self.faults.get(str(index)) == "end of stream" and self._is_due(index):
                raise OSError("the stream broke off")
            try:
                yield self[index]
            except RejectedSample as rejected:
                yield rejected
            except Exception as error:
                yield FailedSample(index, error)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"img": ((2, self.side, self.side, self.side), "uint8"), "seg": ((self.side,) * 3, "uint8")}

    def definition(self) -> dict[str, Any]:
        return {"kind": "toy", "recipe": {"side": self.side, "seed": self.seed}}

    def spec(self) -> dict[str, Any]:
        return {"type": f"{type(self).__module__}:{type(self).__name__}", **asdict(self)}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> ToySampler:
        return cls(**{key: value for key, value in spec.items() if key != "type"})

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
