"""The arrows of the house: who may import whom, what nobody may import, and how light an import stays."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "voxmint"

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        "__main__",
        "cli",
        "make",
        "torch",
        "inspect runs",
        "datasets",
        "pairs instances",
        "templates phantom",
        "volumes",
        "stores nifti",
        "generators",
        "recipe sample",
        "randomness compiling retry files splitmix",
        "errors system",
    )
)
"""From top to bottom; a module imports only from its own package and from layers below."""
GENERATORS = frozenset({"pairs", "instances"})
NOT_FOR_CARRIERS = GENERATORS | {"templates", "phantom", "volumes"}
"""What `datasets` and `runs` never name: they carry samples of any generator."""
PURE = frozenset({"__future__", "typing", "collections", "functools", "math", "statistics"})
KERNEL_IMPORTS = PURE | {"numpy", "numba"}
"""Arrays, compiler and arithmetic: no files, clocks, processes or randomness."""
KERNEL_ROOMS = frozenset({"voxmint.compiling", "voxmint.splitmix"})
"""What kernels may take from the ground floor. `voxmint.compiling` must hash both with the kernels."""
BANNED_IMPORTS = frozenset({"random", "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"})
BANNED_CALLS = frozenset({"eval", "exec", "__import__"})
GLOBAL_RANDOM = re.compile(r"^(np|numpy)\.random\.(?!Philox$|Generator$|BitGenerator$)")
MACHINE_PATH = re.compile(r"(?<![\w.])(/home/|/root/|/Users/|/work/|[A-Za-z]:\\\\Users)")
MOST_FILES, MOST_LINES = 13, 300
HEAVY = [
    *("numba", "scipy", "h5py", "nibabel", "PIL", "pooch"),
    *("torch", "monai", "skimage", "cloudvolume", "tensorstore", "zarr", "pandas", "polars", "pyarrow", "matplotlib"),
]


def package_of(module: str) -> str:
    """Return the part of ``voxmint.X.y`` that stands in `LAYERS`; '' for ``voxmint`` itself."""
    return module.split(".")[1] if "." in module else ""


def layer_of(package: str) -> int:
    """Return the number of a package's layer, 0 on top."""
    for number, layer in enumerate(LAYERS):
        if package in layer:
            return number
    raise AssertionError(f"voxmint.{package} stands in no layer: give it a place in LAYERS")


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, relative names resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
                base = ".".join([*parents, base] if base else parents)
            # `from voxmint import pairs` names a module; `from voxmint.pairs import Recipe` may name a thing inside
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "voxmint" else (base,)


def arrow_faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return what a module imports against the arrows."""
    faults = []
    package = package_of(module)
    in_kernels = "kernels" in module.split(".")
    for name in imports(ast.parse(source), module, is_package=is_package):
        top, target = name.split(".")[0], package_of(name)
        if in_kernels and not kernel_may_import(name, module):
            faults.append(f"{module}: a kernel imports {name}")
        if top in BANNED_IMPORTS:
            faults.append(f"{module}: nobody imports {name}")
        if top != "voxmint" or not package or not target or target == package:
            continue
        if package in ("datasets", "runs") and target in NOT_FOR_CARRIERS:
            if (module, target) != ("voxmint.datasets.bank", "templates"):
                faults.append(f"{module}: {package} never name {target}, got {name}")
        elif layer_of(target) <= layer_of(package):
            faults.append(f"{module}: {package} stands beside or below {target}, got {name}")
    return faults


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return every way in which modules import each other in a circle, one for each module it is found from."""
    found, state = [], dict.fromkeys(arrows, 0)

    def visit(module: str, path: list[str]) -> None:
        state[module] = 1
        for target in sorted(arrows.get(module, ())):
            if state.get(target) == 1:
                found.append([*path[path.index(target) :], target] if target in path else [module, target])
            elif state.get(target) == 0:
                visit(target, [*path, target])
        state[module] = 2

    for module in arrows:
        if not state[module]:
            visit(module, [module])
    return found


def module_arrows() -> dict[str, set[str]]:
    """Return which modules each module of the package imports, wherever in it the import stands."""
    known = {name for name, _ in modules()}
    arrows = {}
    for module, path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        # `from package import module` is an arrow to the module, not to the package that only holds it
        inner = {name for name in names & known if not any(other.startswith(f"{name}.") for other in names & known)}
        arrows[module] = inner - {module}
    return arrows


def kernel_folder(module: str) -> str:
    """Return ``voxmint.pairs.engines.cpu.kernels`` of ``voxmint.pairs.engines.cpu.kernels.warp``."""
    parts = module.split(".")
    return ".".join(parts[: parts.index("kernels") + 1])


def kernel_may_import(name: str, module: str) -> bool:
    """Return whether a kernel may import a name: arithmetic, the compiler, and kernels of its own folder."""
    return name.split(".")[0] in KERNEL_IMPORTS or name in KERNEL_ROOMS or name.startswith(kernel_folder(module))


def habit_faults(source: str, module: str) -> list[str]:
    """Return calls that run code from data, global random state, and paths of one machine."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            faults.append(f"{module}:{node.lineno}: calls {node.func.id}")
        if isinstance(node, ast.Attribute) and GLOBAL_RANDOM.match(ast.unparse(node)):
            faults.append(f"{module}:{node.lineno}: {ast.unparse(node)}; draw from voxmint.randomness.Stream")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            faults.append(f"{module}:{node.value.lineno}: allow_pickle")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            faults.append(f"{module}:{node.lineno}: {ast.unparse(node)}; use safe_load")
        if isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
            faults.append(f"{module}:{node.lineno}: imports from numpy.random; draw from voxmint.randomness.Stream")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MACHINE_PATH.search(node.value):
            faults.append(f"{module}:{node.lineno}: a path of one machine in {node.value[:60]!r}")
    return faults


def modules() -> list[tuple[str, Path]]:
    """Return dotted name and file of every module under src/voxmint."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_there_are_modules_to_check() -> None:
    """An empty list would make every other test here pass."""
    assert len(modules()) > 10


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_arrows_point_downwards(module: str, path: Path) -> None:
    """A module imports only from its own package and from layers below."""
    source = path.read_text(encoding="utf-8")
    assert arrow_faults(source, module, is_package=path.name == "__init__.py") == []


def test_no_module_imports_itself_through_others() -> None:
    """There is no circle of imports, not even one hidden in functions."""
    assert circles(module_arrows()) == []


def test_a_circle_is_found() -> None:
    """Two modules that import each other are one."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]


@pytest.mark.parametrize("folder", sorted({path.parent for _, path in modules()}), ids=lambda path: path.name)
def test_a_folder_holds_about_a_dozen_files(folder: Path) -> None:
    """Where there would be more, there is an idea to name."""
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_FILES


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_file_is_short(module: str, path: Path) -> None:
    """One idea a file."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, module


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_no_global_randomness_code_from_data_or_machine_paths(module: str, path: Path) -> None:
    """What must never be in the sources is not there."""
    assert habit_faults(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("voxmint.pairs.sampler", "from voxmint.runs.plan import Plan"),
        ("voxmint.pairs.sampler", "from voxmint.datasets import hdf5"),
        ("voxmint.pairs.sampler", "from voxmint import instances"),
        ("voxmint.instances.sampler", "def f():\n    import voxmint.pairs.recipe"),
        ("voxmint.pairs.sampler", "from ..runs import plan"),
        ("voxmint.nifti.files", "from voxmint.templates.bank import TemplateBank"),
        ("voxmint.stores.place", "from voxmint.volumes.layer import Layer"),
        ("voxmint.runs.execute", "from voxmint.volumes import layer"),
        ("voxmint.recipe", "from voxmint.templates import bank"),
        ("voxmint.runs.execute", "from voxmint.pairs import sampler"),
        ("voxmint.runs.execute", "from voxmint.templates import bank"),
        ("voxmint.datasets.hdf5", "from voxmint.templates import bank"),
        ("voxmint.datasets.bank", "from voxmint.pairs import recipe"),
        ("voxmint.runs.execute", "from voxmint import inspect"),
        ("voxmint.make", "from voxmint.cli import main"),
        ("voxmint.pairs.engines.cpu.kernels.warp", "from voxmint.randomness import Stream"),
        ("voxmint.pairs.engines.cpu.kernels.warp", "from voxmint.pairs.recipe import PairRecipe"),
        ("voxmint.pairs.engines.cpu.kernels.warp", "import os"),
        ("voxmint.templates.procedural.kernels", "import pathlib"),
        ("voxmint.pairs.draws", "import random"),
        ("voxmint.runs.execute", "from pickle import loads"),
    ],
)
def test_a_bad_import_is_found(module: str, source: str) -> None:
    """Each arrow that must not be is a fault; the import may hide in a function or be relative."""
    assert len(arrow_faults(source, module)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("voxmint.cli", "from voxmint import make, inspect, pairs, errors"),
        ("voxmint.pairs.sampler", "from voxmint.templates.bank import TemplateBank\nfrom .recipe import PairRecipe"),
        ("voxmint.templates.folders", "from voxmint.nifti.files import read"),
        ("voxmint.datasets.bank", "from voxmint.templates.bank import TemplateBank"),
        ("voxmint.recipe", "from voxmint.errors import RecipeError"),
        (
            "voxmint.pairs.engines.cpu.kernels.warp",
            "import numpy as np\nfrom numba import njit\nfrom voxmint.pairs.engines.cpu.kernels import noise",
        ),
        ("voxmint.pairs.engines.cpu.kernels.noise", "from voxmint.splitmix import mix"),
    ],
)
def test_a_good_import_is_no_fault(module: str, source: str) -> None:
    """What the house allows passes."""
    assert arrow_faults(source, module) == []


def test_a_package_without_a_layer_is_refused() -> None:
    """A new package must be given its place."""
    with pytest.raises(AssertionError, match="no layer"):
        arrow_faults("from voxmint import errors", "voxmint.novelty")


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec('1')",
        "import numpy as np\nrng = np.random.default_rng(0)",
        "import numpy as np\ndef f():\n    np.random.seed(1)",
        "from numpy.random import default_rng",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "ROOT = '/home/someone/data'",
    ],
)
def test_a_bad_habit_is_found(source: str) -> None:
    """Each is one fault."""
    assert len(habit_faults(source, "voxmint.somewhere")) == 1


@pytest.mark.parametrize("source", ["np.random.Philox(key=key)", "np.load(path, allow_pickle=False)", "x = 'a/home/b'"])
def test_a_good_habit_is_no_fault(source: str) -> None:
    """Counter-based words, refused pickles and relative paths pass."""
    assert habit_faults(source, "voxmint.somewhere") == []


@pytest.mark.parametrize("statement", ["import voxmint", "import voxmint.cli.app", "import voxmint; dir(voxmint)"])
def test_import_stays_light(statement: str) -> None:
    """A fresh process imports neither compilers, nor readers of formats, nor frameworks."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == []


def test_the_light_import_check_sees_a_heavy_one() -> None:
    """The same question about a process that imports h5py names it."""
    code = f"import h5py, sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == ["h5py"]
