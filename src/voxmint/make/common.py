"""What all jobs share: seeds, and runs that end with a montage."""

from __future__ import annotations

from pathlib import Path

from voxmint.datasets.format import Format
from voxmint.errors import RecipeError
from voxmint.make.stored import MONTAGE, montage
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.progress import Progress
from voxmint.sample import Sampler

_LARGEST_SEED = 2**63 - 1


def checked_seed(seed: int) -> int:
    """Return the seed if it can be one."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise RecipeError("impossible seed", where="seed", expected=f"0 to {_LARGEST_SEED}", got=seed)
    return seed


def run_with_montage(
    sampler: Sampler,
    store: Format,
    out: str | Path,
    workers: int | None,
    progress: Progress | None,
    dry_run: bool,
    only: range | None = None,
) -> RunResult:
    """Run, and draw a montage once the data set is complete."""
    result = execute(sampler, store, out, workers=workers, only=only, progress=progress, dry_run=dry_run)
    if result.complete and not dry_run and not (Path(out) / MONTAGE).exists():
        montage(out)
    return result
