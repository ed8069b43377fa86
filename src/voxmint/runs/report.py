"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass

from voxmint.errors import VerificationError


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was recorded.

    Attributes
    ----------
    file : str
        Relative to the data set's directory.
    sample : int or None
        Index of the sample it belongs to; None when it concerns the file as a whole.
    what : str
        One sentence.
    """

    file: str
    sample: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.sample is None else f', sample {self.sample}'}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    where : str
        The data set.
    finished : bool
        The run that made it ended; otherwise only what is stored so far was checked.
    samples : int
        How many samples were compared with their digests.
    problems : tuple of Problem
        Empty if all is well.
    rejected : int
        How many samples are recorded as rejected.
    """

    where: str
    finished: bool
    samples: int
    problems: tuple[Problem, ...]
    rejected: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def raise_if_wrong(self) -> None:
        """Raise `VerificationError` that lists the problems, if there are any."""
        if self.problems:
            shown = "".join(f"\n    {problem}" for problem in self.problems[:10])
            more = f"\n    and {len(self.problems) - 10} more" if len(self.problems) > 10 else ""
            raise VerificationError(
                f"{len(self.problems)} problems", where=self.where, got=shown + more, remedy="voxmint repair"
            )

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        head = f"{self.where} ({state}): {self.samples:,} samples checked{rejected}"
        return "\n".join([head + (": all as recorded" if self.ok else ""), *map(str, self.problems)])
