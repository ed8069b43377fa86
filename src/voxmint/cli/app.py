"""The root command."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from voxmint.cli.instances import app as instances
from voxmint.cli.pairs import app as pairs
from voxmint.cli.recipe import app as recipe
from voxmint.cli.templates import app as templates

app = App(
    name="voxmint",
    help="Make 3D training volumes for biomedical imaging.",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command()
app.command(pairs)
app.command(instances)
app.command(templates)
app.command(recipe)


@app.command
def montage(directory: str, /, *, out: Path | None = None, count: int = 8, secrets: Path | None = None) -> None:
    """Draw samples of a data set.

    Parameters
    ----------
    directory
        A finished data set, or a template bank; a folder, or gs:// or s3:// address.
    out
        The picture; montage.png in the data set by default.
    count
        Most samples to draw.
    secrets
        JSON file with credentials for a bucket.
    """
    from voxmint.make import montage as draw

    print(draw(directory, out, count=count, secrets=secrets))


@app.command
def verify(directory: str, /, *, secrets: Path | None = None) -> int:
    """Compute every digest of a data set again; name what is wrong.

    Parameters
    ----------
    directory
        A data set, finished or not; a folder, or gs:// or s3:// address.
    secrets
        JSON file with credentials for a bucket.
    """
    from voxmint.runs.progress import make_progress
    from voxmint.runs.verify import verify as check

    report = check(directory, secrets=secrets, progress=make_progress())
    print(report)
    if not report.ok:
        print(f"`voxmint repair {report.where}` makes again what is damaged")
    return 0 if report.ok else 1


@app.command
def repair(
    directory: str,
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
        A data set, finished or not; an unfinished one is finished, too. A folder, or gs:// or s3:// address.
    templates
        The template bank of pairs, or the label files of a bank, where they are not where the data set says.
    ensembles
        Folder of label volumes that `pairs views` or `pairs pack` read, where it is not where the data set says.
    views
        Folder of views that `pairs pack` read, likewise.
    secrets
        JSON file with credentials for layers of instances, and for a bucket.
    workers
        Worker processes; one a core by default.
    """
    from voxmint.make.repair import repair_data_set
    from voxmint.runs.progress import make_progress

    access = {"templates": templates, "ensembles": ensembles, "views": views}
    done = repair_data_set(directory, access, workers=workers, progress=make_progress(), secrets=secrets)
    print(done.found)
    print(f"made      {done.made:,} samples again" if done.made or not done.found.ok else "nothing to repair")
