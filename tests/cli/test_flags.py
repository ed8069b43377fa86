"""Every flag of every command reaches the call behind the command, under its own name and with its own value."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from cyclopts import App

from voxmint.cli import main
from voxmint.cli.app import app
from voxmint.recipe import Recipe

sys.path.append(str(Path(__file__).parents[1]))
from recorder import Flat, Recorder

CALLS = {
    "pairs make": ["voxmint.make:make_pairs"],
    "pairs ensembles": ["voxmint.make:make_ensembles"],
    "pairs views": ["voxmint.make:make_views"],
    "pairs pack": ["voxmint.make:pack_pairs"],
    "instances make": [f"voxmint.make.instances:{it}_instances" for it in ("prepare", "make")]
    + ["voxmint.make.instances:shared_chunks", "voxmint.make.instances.cost:Prices"],
    "instances check": ["voxmint.make.instances.checking:check_instances", "voxmint.make.instances.cost:Prices"],
    "instances phantom": ["voxmint.phantom.layers:make_phantom"],
    "templates prepare": ["voxmint.make:prepare_templates"],
    "templates procedural": ["voxmint.make:procedural_templates"],
    "templates download": ["voxmint.templates.download:download"],
    "templates show": ["voxmint.templates.bank:TemplateBank.open", "voxmint.inspect.bank_text:describe_bank",
                       "voxmint.inspect.bank_picture:bank_picture", "voxmint.inspect.montage:write_montage"],
    "montage": ["voxmint.make:montage"],
    "verify": ["voxmint.runs.verify:verify"],
    "repair": ["voxmint.make.repair:repair_data_set"],
}  # fmt: skip
"""The functions that a command calls: a new command has its line here."""

TEXTS = {
    "--table-voxel-size": ("16,16,30", "8,9,33"),
    "--source-voxel-size": ("", "4,5,6"),
    "--target-voxel-size": ("", "7,8,9"),
    "--column": ("", "target_id=cleft"),
    "--patience": ("", "40"),
    "--source-scale-nm": ("", "4,5,6"),
    "--target-scale-nm": ("", "7,8,9"),
    "--source-offset": ("", "1,-2,3"),
    "--target-offset": ("", "4,-5,6"),
    "--source-axes": ("", "xyz"),
    "--target-axes": ("", "czyx"),
    "--crop": ("", "24,25,26"),
    "--crop-nm": ("", "500,600,700"),
    "--box-nm": ("", "1,2,3,4,5,6"),
    "--ids": ("", "5,6"),
    "--split": ("train=0.8,validation=0.2", "train=0.7,test=0.3"),
}
"""Flags whose text must have a form: the value that a command is compared with, and another."""

FIELDS = {"shape": [20, 24, 17]}
"""Recipe fields without a default to start from, and a value."""

WITH = {"--separate": ["--split", TEXTS["--split"][0]]}
"""What else must be given for a flag to have a meaning."""

_INPUTS = ["--source", "--target", "--table", "--table-voxel-size"]
NEEDED = {"pairs make": ["--count"], "pairs ensembles": ["--count"],
          "instances make": _INPUTS, "instances check": _INPUTS}  # fmt: skip
"""Flags that a command cannot do without, unless a recipe speaks for them."""

ELSEWHERE: dict[str, Flat] = {
    "--columns": {"inputs.columns.preset": "neuroglancer"},
    "--column": {"inputs.columns.target_id": ["cleft"]},
    "--axes": {"inputs.columns.axes": "zyx"},
    "--patience": {"inputs.patience": 40.0},
    "--price-per-gb": {"Prices.per_gb": 0.5},
    "--price-per-million-requests": {"Prices.per_million_requests": 0.5},
    "--source-mip": {"inputs.options.source.mip": 5},
    "--target-mip": {"inputs.options.target.mip": 5},
    "--source-scale-nm": {"inputs.options.source.scale_nm": [4, 5, 6]},
    "--target-scale-nm": {"inputs.options.target.scale_nm": [7, 8, 9]},
    "--source-offset": {"inputs.options.source.offset": [1, -2, 3]},
    "--target-offset": {"inputs.options.target.offset": [4, -5, 6]},
    "--source-axes": {"inputs.options.source.axes": "xyz"},
    "--target-axes": {"inputs.options.target.axes": "czyx"},
    **{
        f"--{name.replace('_', '-')}": {f"inputs.options.{layer}.{name}": 5 for layer in ("source", "target")}
        for name in ("cache_bytes", "concurrency", "attempts")
    },
    "--table-voxel-size": {"inputs.columns.voxel_size_nm": [8, 9, 33]},
    "--source-dataset": {"inputs.options.source.dataset": "other-source_dataset"},
    "--target-dataset": {"inputs.options.target.dataset": "other-target_dataset"},
    "--source-voxel-size": {"inputs.options.source.voxel_size_nm": [4, 5, 6]},
    "--target-voxel-size": {"inputs.options.target.voxel_size_nm": [7, 8, 9]},
    "--crop": {"recipe.crop_vx": [24, 25, 26]},
    "--crop-nm": {"recipe.crop_nm": [500, 600, 700]},
    "--seeds": {"recipe.seeds.model": "spread"},
    "--scenarios": {"recipe.scenarios": 5},
    "--sample-by": {"sampling.method": "density"},
    "--box-nm": {"sampling.box_nm": [[1, 2, 3], [4, 5, 6]]},
    "--ids": {"sampling.ids": [5, 6]},
    "--split": {"split.shares.train": 0.7, "split.shares.test": 0.3},
    "--preset": {"recipe.min_templates": 12},
    "pairs views --preset": {"recipe.std": [20, 70]},
    "pairs make --format": {"format": "nifti"},
    "instances make --format": {"format": "hdf5"},
    "pairs pack --views": {"views": ["other-views/view1", "other-views/view2"]},
    "montage DIRECTORY": {"montage.place": "other-directory"},
    "verify DIRECTORY": {"verify.place": "other-directory"},
    "repair DIRECTORY": {"repair_data_set.place": "other-directory"},
    "templates show BANK": {"open.path": "other-bank"},
    "templates show --picture": {"write_montage.path": "other-picture"},
}
"""Where a value arrives that is not called like its flag."""

ALSO = {
    "--crop-nm": ["recipe.crop_vx"],
    "--dry-run": ["inputs.shared", "shared_chunks.out"],
    "--split": ["split", "split.shares.validation", "split.separate", "split.block_nm"],
    "--stratify-by": ["sampling.method"],
    "--preset": ["recipe."],
    "--shape": ["recipe.side"],
    "--picture": ["bank_picture.", "write_montage."],
}
"""What else a flag may change: other values, or what is called at all."""


@dataclass(frozen=True)
class Flag:
    """A flag, or a positional parameter; ``field`` is the path of a recipe's field."""

    command: str
    name: str
    hint: Any
    default: Any
    required: bool
    field: str = ""

    @property
    def parameter(self) -> str:
        return self.name.removeprefix("--").replace("-", "_").lower()

    def words(self, value: Any) -> list[str]:
        """Return what is typed to give ``value``."""
        if isinstance(value, bool):
            return [self.name if value else self.name.replace("--", "--no-", 1)]
        words = [str(part) for part in value] if isinstance(value, list) else [str(value)]
        if ... in get_args(kinds(self.hint)[0]):
            return [word for part in words for word in (self.name, part)]
        return [self.name, *words] if self.name.startswith("--") else words


def commands(group: App = app, path: str = "") -> Iterator[tuple[str, App]]:
    for name in group:
        if not name.startswith("-"):
            command = group[name]
            if name == "recipe":
                continue  # looks at recipes alone: what it prints is tested
            if command.default_command is None:
                yield from commands(command, f"{path}{name} ")
            else:
                yield f"{path}{name}", command


def flags_of(name: str, command: App) -> list[Flag]:
    found: dict[str, Flag] = {}
    recipe = False
    for argument in command.assemble_argument_collection():
        if argument.name == "*":
            recipe = any(isinstance(kind, type) and issubclass(kind, Recipe) for kind in kinds(argument.hint))
        elif argument.parse and not argument.has_tokens and not argument.children and argument.name not in found:
            field = ".".join(argument.keys) if recipe and argument.keys else ""
            default = argument.field_info.default
            found[argument.name] = Flag(name, argument.name, argument.hint, default, argument.required, field)
    return list(found.values())


def kinds(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type, without None and notes."""
    if get_origin(hint) is Annotated:
        return kinds(get_args(hint)[0])
    if get_origin(hint) in (None, tuple, list, Literal):
        return (hint,)
    return tuple(kind for part in get_args(hint) if part is not NoneType for kind in kinds(part))


FLAGS = [flag for name, command in commands() for flag in flags_of(name, command)]


def another(flag: Flag) -> Any:
    """Return a value that a flag does not have unless it is given."""
    if flag.field in FIELDS:
        return FIELDS[flag.field]
    if flag.name in TEXTS and not flag.field:
        return TEXTS[flag.name][1]
    (kind,) = kinds(flag.hint)
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if choice != flag.default][-1]
    if get_origin(kind) is tuple:
        parts = [kinds(part)[0] for part in get_args(kind)]
        if flag.default is None:
            return [part(number + 1.5) for number, part in enumerate(parts)]
        if parts[-1] is ...:
            return list(flag.default[:-1])
        low, high = flag.default[0], flag.default[-1]
        return [*flag.default[:-1], parts[-1]((low + high) / 2 if low != high else high + 1)]
    if kind is bool:
        return not flag.default
    if kind is int:
        return (flag.default if isinstance(flag.default, int) else 2) + 3
    if kind is float:
        return flag.default * 0.9 or 0.5
    return f"other-{flag.parameter}"


def usual(flag: Flag) -> Any:
    """Return the value of a required flag."""
    (kind,) = kinds(flag.hint)
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    return 4 if kind is int else TEXTS.get(flag.name, [f"some-{flag.parameter}"])[0]


def recorded(command: str, patch: pytest.MonkeyPatch, given: list[str], but: str = "") -> Recorder:
    """Return what a command calls with the flags it needs, save for ``but``, and with those given."""
    ours = [flag for flag in FLAGS if flag.command == command and flag.name not in (but, *given)]
    needed = [flag for flag in ours if flag.required or flag.name in NEEDED.get(command, [])]
    positional = [flag for flag in needed if not flag.name.startswith("--")]
    words = [word for flag in needed if flag not in positional for word in flag.words(usual(flag))]
    with patch.context() as patched:
        recorder = Recorder(patched, *CALLS[command])
        first = [] if given and not given[0].startswith("--") else [str(usual(flag)) for flag in positional]
        assert main([*command.split(), *first, *given, *words]) == 0
    assert recorder.given
    return recorder


def expected(flag: Flag, value: Any, places: Flat) -> Flat:
    """Return what must be found where: by default ``value`` in each place of the flag's name."""
    if flag.field:
        return {place: value for place in places if place.endswith(f".recipe.{flag.field}")}
    for name in (f"{flag.command} {flag.name}", flag.name):
        if name in ELSEWHERE:
            parts = ELSEWHERE[name].items()
            return {place: said for end, said in parts for place in places if place.endswith(f".{end}") or place == end}
    return {p: value for p in places if p.rpartition(".")[2] == flag.parameter and ".recipe." not in p}


NOT_PASSED_ON = ("--yes",)
"""Flags that are between the command and who gives it."""


def cases() -> Iterator[Any]:
    for flag in (flag for flag in FLAGS if flag.name not in NOT_PASSED_ON):
        name = f"{flag.command} {flag.name}"
        yield pytest.param(flag, id=name)


@pytest.mark.parametrize("flag", list(cases()))
def test_a_flag_reaches_its_call(flag: Flag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a value that is not its default, a flag changes every place of its name to that, and nothing else."""
    monkeypatch.chdir(tmp_path)
    companions, value = WITH.get(flag.name, []), another(flag)
    if flag.parameter == "recipe":
        fields = [other for other in FLAGS if other.command == flag.command and other.field]
        flag = next(field for field in fields if kinds(field.hint)[0] in (int, float))
        value = another(flag)
        Path("other-recipe").write_text(yaml.safe_dump({flag.field: value}))
        given = ["--recipe", "other-recipe"]
    elif flag.parameter == "inputs":
        flag = next(other for other in FLAGS if other.command == flag.command and other.name == "--source-mip")
        value = another(flag)
        Path("other-inputs").write_text(yaml.safe_dump({"source-mip": value}))
        given = ["--inputs", "other-inputs"]
    else:
        given = flag.words(value)
    before = recorded(flag.command, monkeypatch, companions).given
    after = recorded(flag.command, monkeypatch, [*given, *companions], but=flag.name).given
    wanted = expected(flag, value, after)
    assert wanted, f"{flag.name} has no place of its name: name it in ELSEWHERE"
    assert {place: after[place] for place in wanted} == wanted
    changed = {place for place in before | after if before.get(place) != after.get(place)}
    assert wanted.keys() & changed
    rest = {place for place in changed - wanted.keys() if not any(end in place for end in ALSO.get(flag.name, []))}
    assert not rest, f"{flag.name} changes more than its own places"


@pytest.mark.parametrize("more", WITH.values(), ids=WITH)
@pytest.mark.parametrize("command", [name for name, _ in commands()])
def test_without_flags_the_defaults_of_the_library_hold(command, more, tmp_path, monkeypatch) -> None:
    """A command whose optional flags are left out calls with what the library has by default."""
    monkeypatch.chdir(tmp_path)
    flags = [flag for flag in FLAGS if flag.command == command]
    recorder = recorded(command, monkeypatch, more if any(flag.name == more[0] for flag in flags) else [])
    needed = {flag.parameter for flag in flags if flag.required or flag.name in NEEDED.get(command, [])}
    given = needed | {"progress", "tell", "shared", "voxel_size_nm"}  # the last is needed, too
    left = {
        place: default
        for place, default in recorder.defaults.items()
        if place in recorder.given and not given & set(place.split("."))
    }
    assert {place: recorder.given[place] for place in left} == left


def test_flags_go_over_a_file_one_by_one(tmp_path, monkeypatch) -> None:
    """A field that no flag names keeps the file's value, beside those that are given, at any depth."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("side: 40\nforeground: {probability: 0.25, envelope_probability: 0.75}\n")
    given = ["--recipe", "file", "--max-templates", "33", "--foreground.probability", "0.125"]
    found = recorded("pairs make", monkeypatch, given).given
    names = ("side", "max_templates", "foreground.probability", "foreground.envelope_probability")
    assert [found[f"make_pairs.recipe.{name}"] for name in names] == [40, 33, 0.125, 0.75]
