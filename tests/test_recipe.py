"""Recipes from files that are not trusted: told in little time and memory, whatever they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from voxmint.errors import RecipeError
from voxmint.pairs.recipe import PairRecipe
from voxmint.recipe import read_yaml, write_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
MERGED = "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30))
HOSTILE = {
    "large": ("a:\n" + "- {b: 1, c: x}\n" * 2_000_000, "at most 262,144 bytes"),
    "deep": ("a: " + "[" * 5000 + "]" * 5000, "nest"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(500)), "nested more than 32 deep"),
    "aliases": (LAUGHS, "line 8: cannot read the recipe: it holds more than 10,000 values"),
    "merged keys": (MERGED, "it holds more than 10,000 values"),
    "within itself": ("a: &a [*a]", "lies within itself"),
    "many values": ("a: [" + "1," * 120_000 + "]", "more than 10,000 values"),
    "long number": ("a: 1" + ":1" * 100_000, "200001 characters"),
    "no date": ("a: 2020-13-45", "month"),
    "no number": ("a: !!int x", "invalid literal"),
    "no time": ("a: !!timestamp x", "correct the YAML"),
    "code": ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "no names": ("1: 2", "not a recipe"),
    "no mapping": ("- 1", "not a recipe"),
    "surrogate": ('a: "\\ud800"\n---\nb: 1', "correct the YAML"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_hostile_recipes_cost_little(tmp_path: Path) -> None:
    """Each is a RecipeError that names the file and the reason; all of them together take little time and memory."""
    for name, (text, _) in HOSTILE.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    code = """if True:
        import sys, time
        from pathlib import Path
        from voxmint.errors import RecipeError
        from voxmint.recipe import read_yaml
        for path in sys.argv[1:]:
            start = time.process_time()
            try:
                read_yaml(Path(path))
            except RecipeError as error:
                assert path in str(error) and error.remedy or error.expected, error
                print(Path(path).stem, "|", " ".join(str(error).split()))
            else:
                raise SystemExit(f"{path} was read")
            assert time.process_time() - start < 2, path
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    """
    paths = [str(tmp_path / f"{name}.yaml") for name in HOSTILE]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    *told, peak = done.stdout.splitlines()
    assert int(peak) < 256 * 1024
    for line in told:
        name, _, text = line.partition(" | ")
        assert HOSTILE[name][1] in text


def test_a_recipe_is_no_device_or_pipe(tmp_path: Path) -> None:
    """What is no regular file is refused instead of waited for or read without end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(RecipeError, match="not a regular file"):
            read_yaml(path)


def test_shared_values_are_read_back(tmp_path: Path) -> None:
    """YAML of values that appear twice holds aliases, and reads back equal."""
    shared = [1.5, 2, None, "ä"]
    values = {"a": shared, "b": {"c": shared}, "d": "x" * 3000}
    (tmp_path / "a.yaml").write_text(write_yaml(values), encoding="utf-8")
    assert "*id001" in (tmp_path / "a.yaml").read_text(encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == values


def test_the_plain_parser_refuses_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the parser of C, what is nested, refers to itself or is no value is told as well."""
    monkeypatch.setattr("voxmint.recipe._PARSER", yaml.SafeLoader)
    for name in ("deep", "deep blocks", "aliases", "merged keys", "within itself", "no date", "code", "no names"):
        (tmp_path / "a.yaml").write_text(HOSTILE[name][0])
        with pytest.raises(RecipeError):
            read_yaml(tmp_path / "a.yaml")


def test_a_field_called_self_is_unknown(tmp_path: Path) -> None:
    """No name of a field collides with Python's own."""
    (tmp_path / "a.yaml").write_text("self: 1\n")
    with pytest.raises(RecipeError, match="unknown recipe field"):
        PairRecipe.from_yaml(tmp_path / "a.yaml")
