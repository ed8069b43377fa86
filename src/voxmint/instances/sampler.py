"""The sampler of instances: ``sampler[i]`` is scenario ``i % scenarios`` of row ``i // scenarios``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError, PlanError, RecipeError, RejectedSample
from voxmint.instances.cut.ahead import Needed, by_place, read_ahead
from voxmint.instances.cut.extract import Cut, Extractor, is_sparse
from voxmint.instances.cut.keep import keep_as_seed
from voxmint.instances.recipe import InstanceRecipe
from voxmint.instances.table.rows import ROWS, load_rows, rows_fingerprint, rows_of, save_rows
from voxmint.instances.table.table import Instance, Rows
from voxmint.randomness import Stream
from voxmint.sample import JSON, Failed, Layout, Outcome, Rejected, Sample, Sampler
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import layer_from_spec, open_identity

_BATCH = 1 << 15
_ROWS_TOGETHER = 128
"""Rows that a worker makes in one stream: more than are read ahead, so that ends of streams cost little."""


class InstanceSampler(Sampler):
    """Samples around instances; each depends on (recipe, both layers, its row, seed, scenario) alone.

    Each sample has uint8 arrays (z, y, x) of one grid: ``source`` the image, ``target`` the instance's mask, ``seed``
    that mask on a few slices, ``valid`` the voxels that are real. They cannot be written: scenarios share them.

    Parameters
    ----------
    recipe : InstanceRecipe
        How samples are made.
    source, target : Layer
        Image and segmentation.
    rows : Rows, sequence of Instance, or path
        The instances; a path is a file that `voxmint.instances.table.rows.save_rows` wrote, and is what other
        processes are told instead of all rows.
    seed : int
        Seed of the data set.

    Raises
    ------
    InputError
        Two rows have one id, or a layer's voxels are of a type that cannot be used.
    RecipeError
        More slices are to be kept than a sample has, or a layer was opened as sparse and the recipe does not say so.
    """

    arrays: ClassVar[tuple[str, ...]] = ("source", "seed", "target", "valid")
    generator: ClassVar[str] = "instances"
    rejects: ClassVar[bool] = True

    def __init__(
        self,
        recipe: InstanceRecipe,
        source: Layer,
        target: Layer,
        rows: Rows | Sequence[Instance] | str | Path,
        seed: int = 0,
    ) -> None:
        self.recipe, self.source, self.target, self.seed = recipe, source, target, int(seed)
        self.rows_path = Path(rows) if isinstance(rows, str | Path) else None
        if isinstance(rows, str | Path):
            rows = load_rows(Path(rows))
        self.rows = rows_of(rows)
        self._extractor = Extractor(recipe, source, target)
        self.cutter = self._extractor.cutter
        self._check()
        self._last: tuple[int, Cut | RejectedSample] | None = None

    def __len__(self) -> int:
        return len(self.rows) * self.recipe.scenarios

    def make(self, index: int) -> Sample | Rejected:
        """Make a scenario of a row.

        Raises
        ------
        ChunkError
            A chunk is missing, forbidden or unreadable, and the recipe does not say that this rejects the row.
        """
        number = self._number(index)
        last = self._last
        if last is None or last[0] != number:
            reading = self._extractor.submit(self.row(number))
            last = self._last = (number, self._extractor.finish(reading))
        return self._finish(index, last[1])

    def stream(self, indices: Iterable[int]) -> Iterator[Outcome]:
        """Make many samples: crops are visited chunk by chunk and read ahead, scenarios share one crop.

        Parameters
        ----------
        indices : iterable of int
            Taken up to 32,768 at a time, and put in order within these.

        Yields
        ------
        Sample, Rejected or Failed
            One for each index, in any order.
        """
        waiting = iter(indices)
        while batch := list(islice(waiting, _BATCH)):
            wanted: dict[int, list[int]] = {}
            for index in batch:
                wanted.setdefault(self._number(index), []).append(index)
            numbers = np.array(list(wanted))
            numbers = numbers[by_place(self.rows.centre_nm[numbers], self.source)]
            rows = ((number, self.row(number)) for number in numbers.tolist())
            for number, outcome in read_ahead(rows, self._extractor):
                for index in wanted[number]:
                    if isinstance(outcome, Cut | RejectedSample):
                        yield self._finish(index, outcome)
                    else:
                        yield Failed(index, outcome)
            self.rows.let_go()

    @property
    def batch(self) -> int:  # type: ignore[override]
        """Samples that a run makes together."""
        return _ROWS_TOGETHER * self.recipe.scenarios

    def order(self) -> NDArray[np.int64]:
        """Return all indices, those of neighbouring chunks next to each other, so that few workers share a chunk."""
        numbers = by_place(self.rows.column("centre_nm"), self.source)
        indices = np.repeat(numbers.astype(np.int64), self.recipe.scenarios).reshape(-1, self.recipe.scenarios)
        indices *= self.recipe.scenarios
        indices += np.arange(self.recipe.scenarios)
        return indices.ravel()

    def row(self, number: int) -> Instance:
        """Return one row."""
        return self.rows.take(np.array([number])).instances()[0]

    def look(self, index: int) -> Sample:
        """Return what lies around a row whether or not it is rejected, for pictures.

        Its ``target`` is all that is not background in the target, its ``seed`` empty.
        """
        cut = self._extractor.look(self.row(self._number(index)))
        arrays = {"source": cut.source, "seed": np.zeros_like(cut.target), "target": cut.target, "valid": cut.valid}
        return Sample(int(index), self._key(index), arrays, cut.record, cut.reads)

    def crops_nm(self) -> NDArray[np.float64]:
        """Return start and (excluded) stop (x, y, z) in nm of each row's crop, all layers together, (n, 2, 3)."""
        crops, number = np.empty((len(self.rows), 2, 3)), 0
        for piece in self.rows.pieces():
            for centre in piece.centre_nm.tolist():
                crops[number] = self.cutter.crop_nm(centre)
                number += 1
        return crops

    def reads(self) -> dict[str, dict[str, int]]:
        """Return for ``source`` and ``target`` the distinct chunks that all samples need, and their decoded bytes."""
        needed = {"source": Needed(self.source), "target": Needed(self.target)}
        for piece in self.rows.pieces():
            frames = [self.cutter.frame(centre) for centre in piece.centre_nm.tolist()]
            for name, chunks in needed.items():
                chunks.add([getattr(frame, name) for frame in frames])
        return {name: chunks.total() for name, chunks in needed.items()}

    def layout(self) -> Layout:
        """Return shape and dtype of each array."""
        return {name: (self.cutter.size[::-1], "uint8") for name in self.arrays}

    def definition(self) -> JSON:
        """Return generator, seed, layers, rows and recipe: all that decides the samples."""
        return {
            "generator": self.generator,
            "seed": self.seed,
            "source": self.source.identity(),
            "target": self.target.identity(),
            "rows": {"count": len(self.rows), "fingerprint": self._fingerprint, "address": ROWS},
            "recipe": self.recipe.to_dict(),
        }

    def access(self) -> JSON:
        """Return where the rows lie, or all of them, and how the layers are opened on this machine."""
        rows: Any = [row.to_dict() for row in self.rows.instances()] if self.rows_path is None else str(self.rows_path)
        return {"rows": rows, "source": self.source.spec(), "target": self.target.spec()}

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build from a definition.

        Raises
        ------
        InputError
            The rows are gone or changed.
        LayerError
            A layer is gone or another one.
        """
        recipe = InstanceRecipe.from_dict(definition["recipe"])
        sparse = {"source": recipe.source_sparse, "target": recipe.target_sparse}
        source, target = (
            layer_from_spec(access[name], definition[name]) if name in access
            else open_identity(definition[name], sparse=sparse[name], secrets=access.get("secrets"))
            for name in ("source", "target")
        )  # fmt: skip
        given = access.get("rows") or definition["rows"].get("address", ROWS)
        rows = given if isinstance(given, str) else [Instance.from_dict(row) for row in given]
        sampler = cls(recipe, source, target, rows, int(definition["seed"]))
        if sampler._fingerprint != definition["rows"]["fingerprint"]:
            raise InputError("the rows are not those that the data set is made from", where=sampler.rows_path,
                             expected=f"fingerprint {definition['rows']['fingerprint']}", got=sampler._fingerprint,
                             remedy="restore the file, or start again in another directory")  # fmt: skip
        return sampler

    def deposit(self, folder: Path) -> None:
        """Write the rows to ``rows.npy`` in a run's folder, unless they are there, and use that file from now on.

        Raises
        ------
        PlanError
            Other rows are there.
        InputError
            What is there is damaged.
        """
        path = folder / ROWS
        if path.exists():
            if rows_fingerprint(load_rows(path)) != self._fingerprint:
                raise PlanError("the folder holds other rows of instances", where=path,
                                remedy="choose another folder (--out), or the same table, count and seed")  # fmt: skip
        else:
            folder.mkdir(parents=True, exist_ok=True)
            save_rows(path, self.rows)
        self.rows, self.rows_path = load_rows(path), path

    @cached_property
    def _fingerprint(self) -> str:
        return rows_fingerprint(self.rows)

    def _check(self) -> None:
        ids = np.sort(self.rows.column("id"))
        if (twice := np.unique(ids[1:][ids[1:] == ids[:-1]])).size:
            raise InputError("rows share an id", expected="one row an id",
                             got=", ".join(map(str, twice[:8].tolist())),
                             remedy="remove duplicates, or number the rows instead")  # fmt: skip
        fewest, slices = self.recipe.seeds.few.limits[0], self.cutter.size[2 - self._extractor.axis]
        if self.recipe.seeds.model == "few" and fewest > slices:
            raise RecipeError("more slices are to be kept than a sample has", where="seeds.few.limits",
                              expected=f"at most {slices}", got=fewest, remedy="keep fewer, or crop more")  # fmt: skip
        for name, declared in (("source", self.recipe.source_sparse), ("target", self.recipe.target_sparse)):
            layer: Layer = getattr(self, name)
            if is_sparse(layer) and not declared:
                raise RecipeError("the layer was opened as sparse, which the recipe does not say", where=layer.url,
                                  remedy=f"set {name}_sparse in the recipe")  # fmt: skip

    def _number(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(index) // self.recipe.scenarios

    def _key(self, index: int) -> str:
        number, scenario = divmod(int(index), self.recipe.scenarios)
        name = str(int(self.rows.id[number]))
        return name if self.recipe.scenarios == 1 else f"{name}_{scenario}"

    def _finish(self, index: int, outcome: Cut | RejectedSample) -> Sample | Rejected:
        """Make one scenario of a cut, or name the one that is rejected."""
        scenario = int(index) % self.recipe.scenarios
        if isinstance(outcome, RejectedSample):
            record = {**outcome.record, "scenario": scenario}
            return Rejected(int(index), self._key(index), " ".join(outcome.what.split()), record, outcome.reads)
        stream = Stream(self.seed, "instance", outcome.record["instance"]["id"], scenario)
        seed, drawn = keep_as_seed(stream, self.recipe, outcome.target, outcome.slices)
        arrays = {"source": outcome.source, "seed": seed, "target": outcome.target, "valid": outcome.valid}
        record = {**outcome.record, "scenario": scenario, **drawn}
        return Sample(int(index), self._key(index), arrays, record, outcome.reads)
