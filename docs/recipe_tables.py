"""Write the tables of recipe fields in `recipes.md` and `instances.md`: names, defaults, docstrings of fields."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path

from voxmint.instances.recipe import (
    ChoiceRecipe,
    FewRecipe,
    InstanceRecipe,
    OutlineErrorRecipe,
    SeedRecipe,
    SpreadRecipe,
)
from voxmint.pairs.recipe import ArtifactRecipe, EnsembleRecipe, ForegroundRecipe, PairRecipe, ViewRecipe
from voxmint.recipe import Recipe

PAGES = tuple(Path(__file__).with_name(name) for name in ("recipes.md", "instances.md"))
RECIPES: dict[str, type[Recipe]] = {
    "ensemble": EnsembleRecipe,
    "foreground": ForegroundRecipe,
    "pair": PairRecipe,
    "view": ViewRecipe,
    "artifacts": ArtifactRecipe,
    "instance": InstanceRecipe,
    "choice": ChoiceRecipe,
    "seeds": SeedRecipe,
    "few": FewRecipe,
    "spread": SpreadRecipe,
    "outline_error": OutlineErrorRecipe,
}


def table(recipe: type[Recipe]) -> str:
    """Return the Markdown table of the fields that a recipe class itself declares."""
    body = next(node for node in ast.parse(inspect.getsource(recipe)).body if isinstance(node, ast.ClassDef)).body
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for node, after in pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        default = recipe.model_fields[name].get_default()
        shown = "see below" if isinstance(default, Recipe) else f"`{_plain(default)}`"
        meaning = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
        rows.append(f"| `{name}` | {shown} | {' '.join(meaning.split())} |")
    return "\n".join(rows)


def filled(page: str) -> str:
    """Return the page with every table between ``<!-- fields: NAME -->`` and ``<!-- end -->`` made anew."""
    return re.sub(
        r"(<!-- fields: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table(RECIPES[found[2]])}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )


def _plain(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.3g}"
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
