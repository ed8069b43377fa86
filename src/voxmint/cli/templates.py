"""`voxmint templates`: where shapes come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from voxmint.cli.common import INPUT, OUTPUT, RUN, DryRun, Folder, SkipUnusable, Workers, flag, say

app = App(name="templates", help="Template banks: binary shapes cut from label files, or grown from nothing.")


@app.command
def prepare(
    tree: Path,
    /,
    *,
    out: Folder,
    workers: Workers = None,
    licence: Annotated[str | None, flag(INPUT, "Licence note to record instead of the one found.")] = None,
    skip_unusable: SkipUnusable = False,
    dry_run: DryRun = False,
) -> None:
    """Make a bank from label files, which are only read.

    Parameters
    ----------
    tree
        A TotalSegmentator tree (v1 or v2), a folder of binary masks or label volumes, or one NIfTI file.
    """
    from voxmint.make import prepare_templates
    from voxmint.runs.progress import make_progress

    result = prepare_templates(tree, out, workers=workers, licence=licence, skip_unusable=skip_unusable,
                               progress=make_progress(), dry_run=dry_run)  # fmt: skip
    say(result, dry_run=dry_run)


@app.command
def procedural(
    *,
    out: Folder,
    count: Annotated[int, flag(OUTPUT, "Number of shapes.")] = 256,
    seed: Annotated[int, flag(RUN, "Seed of the shapes.")] = 0,
    workers: Workers = None,
    dry_run: DryRun = False,
) -> None:
    """Make a bank of procedural shapes."""
    from voxmint.make import procedural_templates
    from voxmint.runs.progress import make_progress

    result = procedural_templates(out, count, seed, workers=workers, progress=make_progress(), dry_run=dry_run)
    say(result, dry_run=dry_run)


@app.command
def download(version: Literal["v1", "v2"], /, *, out: Path) -> None:
    """Get the TotalSegmentator data set from Zenodo, checked and unzipped; goes on after an interruption.

    Parameters
    ----------
    version
        v1 (record 6802614) or v2 (record 10047292).
    out
        Folder to put it in.
    """
    from voxmint.cli.downloading import download_bar
    from voxmint.templates.download import download as fetch

    with download_bar() as bar:
        folder = fetch(version, out, progress=bar.move, tell=bar.tell)
    print(folder)


@app.command
def show(bank: Path, /, *, picture: Path | None = None) -> None:
    """Tell what a bank holds, and draw it.

    Parameters
    ----------
    bank
        A template bank.
    picture
        PNG file to draw the templates to.
    """
    from voxmint.inspect.bank_text import describe_bank
    from voxmint.templates.bank import TemplateBank

    opened = TemplateBank.open(bank)
    print(describe_bank(opened))
    if picture is not None:
        from voxmint.inspect.bank_picture import bank_picture
        from voxmint.inspect.montage import write_montage

        write_montage(picture, bank_picture(opened))
        print(picture)
