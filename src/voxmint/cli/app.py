"""The root command, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from voxmint.cli.instances import app as instances
from voxmint.cli.pairs import app as pairs
from voxmint.cli.templates import app as templates
from voxmint.cli.told import told

app = App(name="voxmint", help="Make 3D training volumes for biomedical imaging.", result_action="return_value")
app.command(pairs)
app.command(instances)
app.command(templates)


@app.command
def montage(directory: Path, /, *, out: Path | None = None, count: int = 8) -> None:
    """Draw samples of a data set.

    Parameters
    ----------
    directory
        A finished data set.
    out
        The picture; montage.png in the data set by default.
    count
        Most samples to draw.
    """
    from voxmint.make import montage as draw

    print(draw(directory, out, count=count))


@app.command
def verify(directory: Path, /) -> int:
    """Compute every digest of a data set again; name what is wrong.

    Parameters
    ----------
    directory
        A data set, finished or not.
    """
    from voxmint.runs.progress import make_progress
    from voxmint.runs.verify import verify as check

    report = check(directory, progress=make_progress())
    print(report)
    if not report.ok:
        print(f"`voxmint repair {directory}` makes again what is damaged")
    return 0 if report.ok else 1


@app.command
def repair(
    directory: Path,
    /,
    *,
    templates: str | None = None,
    ensembles: Path | None = None,
    views: Path | None = None,
    secrets: Path | None = None,
    workers: int | None = None,
) -> None:
    """Make what is damaged of a data set again, and nothing else: it ends in the bytes it had when it was made.

    Parameters
    ----------
    directory
        A data set, finished or not; an unfinished one is finished, too.
    templates
        Templates of pairs, as for `pairs make`; by default the bank in the data set's own folder.
    ensembles, views
        Folders that `pairs views` or `pairs pack` read.
    secrets
        JSON file with credentials for layers of instances.
    workers
        Worker processes; one a core by default.
    """
    from voxmint.make.repair import Origin, repair_data_set
    from voxmint.runs.progress import make_progress

    origin = Origin(templates, ensembles, views, secrets)
    done = repair_data_set(directory, origin, workers=workers, progress=make_progress())
    print(done.found)
    print(f"made      {done.made:,} samples again" if done.made or not done.found.ok else "nothing to repair")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return told(lambda: app(arguments, exit_on_error=False, print_error=False))
