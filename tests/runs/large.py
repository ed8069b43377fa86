"""Large data sets made fast, with records as long as those of pairs; run as a script it makes one or measures a use.

``large.py make FOLDER FORMAT COUNT [END]`` makes samples 0 to END, ``large.py measure WHAT FOLDER FORMAT COUNT`` prints
as JSON how long a use took, and by how much the process grew beyond one that imported the same and read nothing.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from voxmint.datasets.format import Format
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.nifti import PAIR_PATHS, NiftiFormat
from voxmint.datasets.npy import NpyFormat
from voxmint.datasets.stored import StoredDataset
from voxmint.runs.execute import execute
from voxmint.runs.verify import verify
from voxmint.sample import Sample, Sampler

SIDE = 16
NUMBERS = 500
"""Numbers of a record: some 10 KB, as records of pairs have."""
FORMATS: dict[str, Format] = {
    "hdf5": Hdf5Format(100),
    "nifti": NiftiFormat(PAIR_PATHS),
    "npy": NpyFormat({name: name + "/{key}.npy" for name in ("img", "seg")}),
}


class LargeToy(Sampler):
    """Noise, with long records."""

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")
    batch = 64

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def make(self, index: int) -> Sample:
        random = np.random.Generator(np.random.Philox(key=index))
        values = np.frombuffer(random.bytes(3 * SIDE**3), np.uint8).reshape(3, SIDE, SIDE, SIDE)
        record = {"drawn": random.random(NUMBERS).tolist()}
        return Sample(index, f"toy_{index:09d}", {"img": values[:2], "seg": values[2]}, record)

    def layout(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"img": ((2, SIDE, SIDE, SIDE), "uint8"), "seg": ((SIDE,) * 3, "uint8")}

    def definition(self) -> dict[str, Any]:
        return {"kind": "large toy", "count": self.count}

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> LargeToy:
        return cls(definition["count"])


def use(what: str, folder: Path, format: Format, count: int) -> None:
    """Do one of the things that must not grow with the number of samples."""
    sampler = LargeToy(count)
    if what == "verify":
        assert verify(folder).ok
    elif what == "train":
        from voxmint.torch import PairDataset

        assert len(PairDataset(folder)) == count
    elif what == "open":
        dataset = StoredDataset(folder)
        assert len(dataset) == count
        assert dataset.sample(count - 1).index == count - 1
    elif what == "resume":
        assert execute(sampler, format, folder, dry_run=True).plan.done == count - 1
    elif what == "finish":
        assert execute(sampler, format, folder, workers=1).complete
    elif what == "again":
        result = execute(sampler, format, folder, workers=1)
        assert (result.complete, result.made) == (True, 0)


def most_memory() -> int:
    """Return the most KB that this process had; ``ru_maxrss`` would be that of the one it was started from."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def main() -> None:
    """Make or measure."""
    verb, *words = sys.argv[1:]
    if verb == "make":
        folder, name, count, *end = words
        execute(LargeToy(int(count)), FORMATS[name], folder, only=range(int(*end)) if end else None)
        return
    what, folder, name, count = words
    if what == "train":
        import voxmint.torch  # noqa: F401
    empty = most_memory()
    started = time.monotonic()
    use(what, Path(folder), FORMATS[name], int(count))
    seconds = time.monotonic() - started
    grown = most_memory() - empty
    print(json.dumps({"what": what, "seconds": round(seconds, 2), "megabytes": round(grown / 1024, 1)}))


if __name__ == "__main__":
    import large  # worker processes look for the sampler under this name

    large.main()
