"""Template banks: from label files, from nothing, or found where they lie."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voxmint.datasets.bank import BankFormat
from voxmint.datasets.format import Output
from voxmint.datasets.manifest import MANIFEST, RECIPE
from voxmint.datasets.stored import StoredDataset
from voxmint.errors import PlanError, RunError, TemplateBankError, UnusableFilesError
from voxmint.files import storage_errors
from voxmint.generators import generator_name
from voxmint.make.common import TEMPLATES_FOLDER
from voxmint.make.procedural import PROCEDURAL, check_grown, procedural_templates
from voxmint.recipe import read_yaml
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.grow import clear
from voxmint.runs.identity import UNKNOWN
from voxmint.runs.lock import claim
from voxmint.runs.progress import Progress
from voxmint.sample import JSON
from voxmint.templates.bank import FILE_NAME, TemplateBank
from voxmint.templates.source import UNUSABLE, FileSource

BANK_IN_TREE = "voxmint_bank"
"""Folder of a bank that lies beside the subjects it was made from; it is used in place of them."""
_OF_LABEL_FILES = ("templates.totalsegmentator", "templates.folder")


@dataclass(frozen=True)
class UnmadeBank:
    """Stands for a bank in a plan that is made before the bank is."""

    path: Path
    fingerprint: str = UNKNOWN

    def __len__(self) -> int:
        return 0

    def identity(self) -> JSON:
        """Return what names a bank in a definition."""
        return {"count": UNKNOWN, "fingerprint": UNKNOWN, "address": str(self.path)}


def prepare_templates(
    tree: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    licence: str | None = None,
    skip_unusable: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make a template bank from label files.

    Parameters
    ----------
    tree : path
        A TotalSegmentator tree, a folder of masks or label volumes, or one NIfTI file. It is only read.
    out : path
        Folder of the bank.
    workers : int, optional
        Worker processes; one a processor core by default.
    licence : str, optional
        Licence note to record instead of the one found.
    skip_unusable : bool
        Whether files that cannot be used are left out, and listed in the bank's records.
    progress, dry_run
        As for `voxmint.runs.execute.execute`.

    Raises
    ------
    UnusableFilesError
        Some files cannot be used; all are listed. The others' templates are kept for the next run.

    Examples
    --------
    >>> import numpy as np, nibabel, os, voxmint as vm
    >>> os.makedirs("masks")
    >>> nibabel.save(nibabel.Nifti1Image(np.ones((9, 8, 7), np.uint8), np.eye(4)), "masks/box.nii.gz")
    >>> vm.prepare_templates("masks", "bank", workers=1).complete
    True
    """
    from voxmint.templates.folders import open_source

    source = open_source(tree, licence=licence, skip_unusable=skip_unusable)
    out = _outside(out, tree)
    if not dry_run and _is_begun_of_others(source, out):
        with claim(Output.at(out)):
            clear(Output.at(out))
    if not dry_run and is_stale(source, out, only_here=True):
        return _made_anew(source, out, tree, workers, progress)
    return _make_bank(source, out, tree, workers, progress, dry_run)


def is_stale(source: FileSource, bank: Path, *, only_here: bool = False) -> bool:
    """Tell whether a finished bank was made of other label files than lie there now, or of older ones.

    With ``only_here`` a bank that was made in another place is not: it is another data set.
    """
    if not (bank / MANIFEST).is_file():
        return False
    about, parent = StoredDataset(bank).about, str(bank.absolute().parent)
    if generator_name(about) not in _OF_LABEL_FILES:
        return False  # another data set, which is refused where it is in the way
    if only_here and (about.get("tree") or {}).get("address", parent) != str(source.root.absolute()):
        return False
    if _made_of_others(source, about):
        return True
    made = (bank / FILE_NAME).stat().st_mtime_ns if (bank / FILE_NAME).is_file() else 0
    return any(path.stat().st_mtime_ns > made for path in source.files() if path.exists())


def _made_of_others(source: FileSource, about: JSON) -> bool:
    """Tell whether files have other names or sizes than those that a bank, finished or not, says it is made of."""
    there = about.get("tree") or {"fingerprint": about.get("fingerprint")}
    return bool(there["fingerprint"] != source.definition()["tree"]["fingerprint"])


def _is_begun_of_others(source: FileSource, bank: Path) -> bool:
    """Tell whether a bank of this very place was begun, not finished, of files that are others by now: mended, say."""
    if not (bank / RECIPE).is_file() or (bank / MANIFEST).is_file():
        return False
    about = read_yaml(bank / RECIPE)
    if generator_name(about) not in _OF_LABEL_FILES or not isinstance(about.get("tree"), dict):
        return False
    return about["tree"].get("address") == str(source.root.absolute()) and _made_of_others(source, about)


def _made_anew(
    source: FileSource, out: Path, tree: str | Path, workers: int | None, progress: Progress | None
) -> RunResult:
    """Make a bank beside the old one, which stays until the new one stands."""
    new, old = out.with_name(f"{out.name}.new"), out.with_name(f"{out.name}.old")
    if (new / RECIPE).is_file() and (_made_of_others(source, StoredDataset(new).about) or is_stale(source, new)):
        with storage_errors(new, "removing a bank of other label files"):
            shutil.rmtree(new)
    result = _make_bank(source, new, tree, workers, progress, dry_run=False)
    TemplateBank.open(new).verify()
    with storage_errors(out, "replacing the bank"):
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        new.rename(out)
        shutil.rmtree(old)
    return result


def _make_bank(
    source: FileSource, out: Path, origin: str | Path, workers: int | None, progress: Progress | None, dry_run: bool
) -> RunResult:
    try:
        result = execute(source, BankFormat(), out, workers=workers, progress=progress, dry_run=dry_run)
    except TemplateBankError as error:  # found out when the bank is put together, far from the tree
        error.where = origin
        raise
    except RunError as error:
        if not all(isinstance(cause, UnusableFilesError) for cause in error.causes) or not error.causes:
            raise
        files = [line for cause in error.causes if cause for line in str(cause.got).splitlines()]
        raise _unusable(files, source.root) from error
    if source.skip_unusable and result.made and progress is not None:
        records = StoredDataset(out).records
        left_out = [f"{name}: {why}" for index in map(int, records.indices)
                    for name, why in records[index]["record"].get("unusable", {}).items()]  # fmt: skip
        if left_out:
            progress.note("\n    ".join([f"left out, as the bank's records say: {_files(len(left_out))}", *left_out]))
    return result


def _unusable(files: list[str], root: Path) -> UnusableFilesError:
    return UnusableFilesError(f"{_files(len(files))} cannot be used", where=root, remedy=UNUSABLE,
                              got="".join(f"\n    {line}" for line in files))  # fmt: skip


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def find_bank(
    templates: str | Path | None,
    out: str | Path,
    recorded: JSON | None = None,
    *,
    workers: int | None = None,
    skip_unusable: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> TemplateBank:
    """Open the bank that ``templates`` names; shapes and trees become a bank in ``<out>/templates`` first.

    Parameters
    ----------
    templates : str or path, optional
        ``procedural``, a bank, a tree with a bank in it, or label files as for `prepare_templates`. By default what is
        recorded, else ``procedural``.
    out : path
        Folder of the data set.
    recorded : dict, optional
        What the recipe of another data set says of its templates: the bank that is found must have this content, unless
        ``templates`` names one, which is told.
    workers, skip_unusable, progress, dry_run
        As for `prepare_templates`; a dry run does not make a bank.

    Raises
    ------
    TemplateBankError
        The bank is not that of the recipe.
    """
    options: Any = {"workers": workers, "progress": progress, "dry_run": dry_run}
    if templates is None and recorded is not None:
        bank = _recorded_bank(recorded, Path(out), options)
    else:
        bank = _named_bank(PROCEDURAL if templates is None else templates, Path(out), options, skip_unusable)
    if recorded is not None and bank.identity()["fingerprint"] not in (recorded["fingerprint"], UNKNOWN):
        if templates is None:
            raise TemplateBankError("not the template bank of the recipe", where=bank.path,
                                    expected=f"fingerprint {recorded['fingerprint']}", got=bank.fingerprint,
                                    remedy="put that bank there, or name one: --templates")  # fmt: skip
        if progress is not None:
            progress.note(f"--templates {templates}: another bank than the recipe's")
    return bank


def check_templates(templates: str | Path | None) -> None:
    """Raise what `find_bank` would if ``templates`` names a bank or label files that cannot be opened."""
    from voxmint.templates.folders import open_source

    if templates is not None and str(templates) != PROCEDURAL:
        (TemplateBank.open if is_bank(Path(templates)) else open_source)(templates)


def _recorded_bank(recorded: JSON, out: Path, options: Any) -> TemplateBank:
    """Open the bank of a recipe where it lies, or grow it again, if it was grown."""
    address, made = recorded.get("address"), recorded.get("made_from") or {}
    if address is not None and is_bank(Path(address)):
        return TemplateBank.open(address)
    if made.get("templates") != PROCEDURAL:
        raise TemplateBankError("the templates of the recipe are not where it says", where=address,
                                expected=f"fingerprint {recorded['fingerprint']}",
                                remedy="put them there, or name where they lie: --templates")  # fmt: skip
    check_grown(made, recorded.get("address"))
    result = procedural_templates(out / TEMPLATES_FOLDER, int(made["count"]), int(made["seed"]), **options)
    return _opened(result, out / TEMPLATES_FOLDER)


def _named_bank(templates: str | Path, out: Path, options: Any, skip_unusable: bool) -> TemplateBank:
    folder, beside = out / TEMPLATES_FOLDER, Path(templates) / BANK_IN_TREE
    if str(templates) == PROCEDURAL:
        return _opened(procedural_templates(folder, **options), folder)
    if is_bank(Path(templates)):
        return TemplateBank.open(templates)
    if is_bank(beside) and not _warn_if_stale(Path(templates), beside, options["progress"]):
        return TemplateBank.open(beside)
    if (out / RECIPE).is_file():  # the bank is part of a data set: made anew it would be another one's
        from voxmint.templates.folders import open_source

        source = open_source(templates, skip_unusable=skip_unusable)
        return _opened(_make_bank(source, folder, templates, **options), folder)
    return _opened(prepare_templates(templates, folder, skip_unusable=skip_unusable, **options), folder)


def _opened(result: RunResult, folder: Path) -> TemplateBank:
    return TemplateBank.open(folder) if result.complete else cast(TemplateBank, UnmadeBank(folder))


def _warn_if_stale(tree: Path, bank: Path, progress: Progress | None) -> bool:
    from voxmint.templates.folders import open_source

    stale = (bank / MANIFEST).is_file() and is_stale(open_source(tree), bank)
    if stale and progress is not None:
        progress.note(f"the label files in {tree} changed since the bank beside them was made: another one is made")
    return stale


def is_bank(path: Path) -> bool:
    """Tell whether a path is a template bank: its folder, or the file in it."""
    if path.is_dir():
        return (path / FILE_NAME).is_file()
    return path.is_file() and not path.name.endswith((".nii", ".nii.gz"))


def _outside(out: str | Path, tree: str | Path) -> Path:
    """Refuse to put a bank where it would be read as part of its own source."""
    out, tree = Path(out), Path(tree)
    if out.resolve() == tree.resolve():
        raise PlanError("a bank cannot lie in the very folder it is made from", where=out,
                        remedy="choose another folder for the bank, for example one below it")  # fmt: skip
    return out
