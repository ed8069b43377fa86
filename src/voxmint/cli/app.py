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
    return 0 if report.ok else 1


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return told(lambda: app(arguments, exit_on_error=False, print_error=False))
