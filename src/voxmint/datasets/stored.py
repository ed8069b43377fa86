"""A data set that lies somewhere, opened: what it says of itself, and its samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from voxmint.datasets.format import Format, Output, array_layout, format_from_spec
from voxmint.datasets.manifest import MANIFEST, RECIPE, manifest_head
from voxmint.datasets.records import RECORDS, Records
from voxmint.errors import InputError, RecipeError
from voxmint.recipe import parse_yaml
from voxmint.sample import JSON, Sample
from voxmint.stores.place import Place

_AGAIN = "finish its run by giving the same command again"


class StoredDataset:
    """A data set in a folder or bucket, in any format; finished, unless its records are all there is of the end.

    Safe to use from many threads; another process opens its own. Records are read when they are asked for.

    Parameters
    ----------
    place : str, Path or Place
        Its folder or address.
    secrets : path, optional
        JSON file of credentials for a bucket.
    home : Place, optional
        Where its recipe and records lie, if not in its place: before a run to a bucket ends, that is the folder of the
        run's state.

    Attributes
    ----------
    about : dict
        What its ``recipe.yaml`` says.
    format : Format
        What it was written with.
    output : Output
        Where it lies, and how large it is.
    finished : bool
        Whether it has a manifest.

    Raises
    ------
    InputError
        There is no data set.
    RecipeError
        Its recipe is damaged.
    """

    def __init__(
        self, place: str | Path | Place, *, secrets: str | Path | None = None, home: Place | None = None
    ) -> None:
        self.place = place if isinstance(place, Place) else Place(place, secrets=secrets)
        self.home = home or self.place
        self.finished = self.home.exists(MANIFEST)
        if not self.finished and not self.home.exists(RECIPE):
            raise InputError("no data set here", where=self.place.url, expected=f"{RECIPE} and {MANIFEST}",
                             remedy="correct the path, or make one there")  # fmt: skip
        self.about = read_about(self.home)
        try:
            self.format, self.output = format_and_output(self.place, self.about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecipeError(f"the recipe does not tell format and count: {error}",
                              where=f"{self.place.url}/{RECIPE}", remedy="see `voxmint verify`") from error  # fmt: skip
        self._records: Records | None = None

    @property
    def records(self) -> Records:
        """Records of all samples.

        Raises
        ------
        InputError
            The run has not ended.
        """
        if self._records is None:
            if not self.home.exists(RECORDS):
                raise InputError("no finished data set here", where=self.place.url, expected=RECORDS, remedy=_AGAIN)
            self._records = Records(self.home)
        return self._records

    @classmethod
    def of(cls, output: Output) -> Self:
        """Open the data set of a run on this machine, which need not have ended."""
        return cls(output.place, secrets=output.secrets, home=Place(output.directory))

    def require_finished(self) -> None:
        """Raise `InputError` unless it is finished."""
        if not self.finished:
            raise InputError("no finished data set here", where=self.place.url, expected=MANIFEST, remedy=_AGAIN)

    def __len__(self) -> int:
        return len(self.records)

    def arrays(self, index: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of sample ``index``."""
        key = str(self.records[index]["key"]) if self.format.needs_key else ""
        return self._read(index, key)

    def sample(self, index: int) -> Sample:
        """Return sample ``index`` as it was stored."""
        record = self.records[index]
        return Sample(index, record["key"], self._read(index, record["key"]), record["record"])

    def samples(self, count: int) -> Iterator[Sample]:
        """Yield up to ``count`` samples, evenly spaced."""
        indices = self.records.indices[:: max(1, len(self) // max(1, count))][:count]
        return (self.sample(int(index)) for index in indices)

    def _read(self, index: int, key: str) -> dict[str, NDArray[Any]]:
        arrays = self.format.read(self.output, index, key)
        if arrays is None:
            raise InputError("this data set keeps no single samples", where=self.place.url)
        return arrays


def read_about(place: Place) -> JSON:
    """Return what a data set's recipe says; the head of its manifest stands in for one that is gone."""
    if place.exists(RECIPE):
        return parse_yaml(place.read(RECIPE), f"{place.url}/{RECIPE}")
    return manifest_head(place)


def format_and_output(place: Place, about: JSON) -> tuple[Format, Output]:
    """Return in which format the data set in a place is, and how large, as its recipe or its manifest's head says.

    What is damaged there raises whatever Python does: `KeyError`, `TypeError`, `ValueError` or `AttributeError`.
    """
    output = Output(
        place.home, int(about["count"]), array_layout(about["arrays"]),
        url=None if place.is_local else place.address,
        secrets=None if place.secrets is None else str(place.secrets),
    )  # fmt: skip
    return format_from_spec(about["format"]), output
