"""Write the tables of recipe fields in `recipes.md` and `instances.md`: names, defaults, docstrings of fields."""

from __future__ import annotations

import re
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
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name, meaning in recipe.meanings().items():
        default = recipe.model_fields[name].get_default()
        shown = "see below" if isinstance(default, Recipe) else f"`{_plain(default)}`"
        rows.append(f"| `{name}` | {shown} | {meaning} |")
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
