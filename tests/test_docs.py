"""The documentation runs: every python block, and every line of a shell block that calls voxmint."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from voxmint.cli import main
from voxmint.pairs.recipe import PairRecipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?P<note><!-- not run: [^>]+-->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SHELL = ("bash", "console", "sh", "shell")
SMALL = {"--side": 32, "--count": 4, "--workers": 2, "--val-count": 1}
"""Sizes are cut to these, so that a page may show real ones."""
PROCEDURAL = ["--templates", "procedural"]
HOLDS = re.compile(r"`([\w/]+?)/?` (?:then )?holds")
DIGEST = r"\b[0-9a-f]{64}$"
MADE = r"^made +{} in "
RIGHT = r": {} samples checked.*: all as recorded$"
DRAWN = r"\w+_\d{4} \[-?[\d.]+, -?[\d.]+, -?[\d.]+\]$"
SAYS = {
    "README.md": [
        *(MADE.format(number) for number in (4, 22, 4, 4, 4)),
        rf"^\w+_shapes\d+_[A-Z0-9]{{7}} \(2, 32, 32, 32\) {DIGEST}",
        RIGHT.format(4),
        r"^montage\.png$",
    ],
    "index.md": [MADE.format(2), RIGHT.format(2)],
    "instances.md": [r"^table +phantom/", r'"hit_rate": (1\.0|0\.[5-9])', MADE.format(22), RIGHT.format(22)],
    "pairs.md": [
        MADE.format(4),
        MADE.format(3),
        MADE.format(2),
        r"^pairs\.png$",
        *(rf"^{number} {DRAWN}" for number in range(3)),
    ],
    "recipes.md": [
        DIGEST,
        "^sides: unknown recipe field$",
        "min_templates",
        "remedy: .*spelling$",
        "^shape:",
        "^generator: pairs$",
        r'"\$schema"',
    ],
    "reliability.md": [MADE.format(2), "^complete already: nothing to do$", RIGHT.format(2), "^nothing to repair$"],
    "templates.md": [MADE.format(4), r"^templates +4$", r"^bank\.png$"],
}
"""What the blocks of a page print, one after the other."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and code of every block that is not marked ``<!-- not run: reason -->`` on the line before."""
    for found in FENCE.finditer(page):
        if not found["note"]:
            yield found["language"], found["code"]


def commands(code: str) -> list[list[str]]:
    """Return the arguments of each voxmint command in a shell block, with sizes cut; other lines are left out."""
    lines = re.sub(r"\\\n\s*", " ", code).splitlines()
    words = [shlex.split(re.sub(r"^\s*\$ ", "", line), comments=True) for line in lines]
    return [small(line[1:]) for line in words if line[:1] == ["voxmint"]]


def small(arguments: list[str]) -> list[str]:
    """Return the arguments with sizes cut to `SMALL`; pairs name side and templates."""
    cut = list(arguments)
    for position, argument in enumerate(cut):
        name, equals, value = argument.partition("=")
        if name not in SMALL:
            continue
        if equals:
            cut[position] = f"{name}={min(int(value), SMALL[name])}"
        else:
            cut[position + 1] = str(min(int(cut[position + 1]), SMALL[name]))
    if cut[:2] in (["pairs", "make"], ["pairs", "ensembles"]):
        for option, value in (("--side", str(SMALL["--side"])), PROCEDURAL):
            said = {"--side": {"--side", "--shape", "--recipe"}}.get(option, {option})
            if not any(word.split("=")[0] in said for word in cut):
                cut += [option, value]
    return cut


def held(page: str) -> list[str]:
    """Return the files that a page says there are, as patterns: what "`folder/` holds", and names with an ``<id>``."""
    found, lines = re.findall(r"`(\w+/\w*<[^`]+)`", page), page.splitlines()
    for number, line in enumerate(lines):
        if holds := HOLDS.match(line):
            after = lines[number + 1 :]
            rows = [row.split("|")[1] for row in takewhile(lambda row: row.startswith("|"), after[1:])]  # of a table
            text = " ".join(rows or [line[holds.end() :], *takewhile(bool, after)]).partition(";")[0]
            found += [f"{holds[1]}/{name}" for name in re.findall(r"`([^`]+)`", text)]
    return [re.sub(r"<\w+>", "*", name).rstrip("/") for name in found]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bank, which stands in for the default's 256 procedural templates."""
    folder = tmp_path_factory.mktemp("templates") / "bank"
    run(["templates", "procedural", "--out", str(folder), "--count", "3"])
    return folder


def run(arguments: list[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    assert code == 0, f"voxmint {shlex.join(arguments)}\n{out.getvalue()}{err.getvalue()}"
    return out.getvalue()


def run_with(bank: Path, arguments: list[str]) -> str:
    """Run a command; procedural templates of pairs come from a small bank, which then lies where theirs would."""
    at = arguments.index(PROCEDURAL[1]) if arguments[0] == "pairs" and PROCEDURAL[1] in arguments else None
    if at is None:
        return run(arguments)
    said = run([*arguments[:at], str(bank), *arguments[at + 1 :]])
    shutil.copytree(bank, Path(arguments[arguments.index("--out") + 1]) / "templates", dirs_exist_ok=True)
    return said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page: Path, bank: Path, tmp_path, monkeypatch, capsys) -> None:
    """A reader who follows a page from top to bottom in an empty folder meets no error, and sees what it says."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    text, printed = page.read_text(encoding="utf-8"), ""
    for language, code in blocks(text):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)
            printed += capsys.readouterr().out
        elif language == "yaml":
            PairRecipe.from_dict(yaml.safe_load(code))
        elif language in SHELL:
            for arguments in commands(code):
                printed += run_with(bank, arguments)
    print(printed)
    assert bool(printed) == (page.name in SAYS)
    for picture in re.findall(r"^.+\.png$", printed, re.MULTILINE):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    at = 0
    for sight in SAYS.get(page.name, []):
        found = re.compile(sight, re.MULTILINE).search(printed, at)
        assert found, f"{page.name}: {sight} is not printed after\n{printed[:at]}"
        at = found.end()
    for name in held(text):
        assert any(Path().glob(f"**/{name}")), f"{page.name}: there is no {name}"


def test_the_tables_of_fields_are_current() -> None:
    """Every recipe field stands on the page with its default and meaning."""
    tables = runpy.run_path(str(ROOT / "docs" / "recipe_tables.py"))
    pages = [path.read_text(encoding="utf-8") for path in tables["PAGES"]]
    assert all(tables["filled"](page) == page for page in pages), "run `python docs/recipe_tables.py`"
    for recipe in tables["RECIPES"].values():
        assert all(f"| `{name}` |" in "".join(pages) for name in recipe.model_fields)


def test_links_between_pages_lead_somewhere() -> None:
    """Relative links name files that exist."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_blocks_and_commands_are_read_as_a_reader_would() -> None:
    """Prompts, continued lines and comments are understood; marked blocks and other programs are left out."""
    page = (
        "<!-- not run: why -->\n```bash\nvoxmint x\n```\n\n"
        "```console\n$ pip install voxmint\n$ voxmint pairs make --out a \\\n    --count 8  # eight\ndone\n```\n"
    )
    assert [language for language, _ in blocks(page)] == ["console"]
    (code,) = (code for _, code in blocks(page))
    assert commands(code) == [["pairs", "make", "--out", "a", "--count", "4", "--side", "32", *PROCEDURAL]]
    assert small(["templates", "procedural", "--count=128"]) == ["templates", "procedural", "--count=4"]
    assert small(["pairs", "make", "--side=16", "--templates", "b"]) == [
        "pairs",
        "make",
        "--side=16",
        "--templates",
        "b",
    ]


def test_what_a_page_says_there_is_is_read_as_a_reader_would() -> None:
    """Tables and sentences after "holds" name files of that folder; a name with an <id> stands for any."""
    page = (
        "`a/b` then holds\n\n| file | what |\n|---|---|\n| `x.y`, `z/` | `no` |\n\n`not this`\n\n"
        "`c/` holds `d_<id>.npy` and\n`e`; `--f` does more\n\nand `g/h_<n>_<m>.npy`"
    )
    assert sorted(held(page)) == ["a/b/x.y", "a/b/z", "c/d_*.npy", "c/e", "g/h_*_*.npy"]
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert {"pairs/montage.png", "data/pairs/val_data.hdf5", "instances/gt/target_*.npy"} <= set(held("\n".join(pages)))
