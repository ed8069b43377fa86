"""Samplers of the randomized synthesis: whole pairs, label ensembles alone, and views of given ensembles.

Whatever needs the compiler is imported where a sample is made: a process that only plans a run starts without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import TemplateBankError
from voxmint.pairs.draws import draw_ensemble, draw_view
from voxmint.pairs.naming import VIEW_NAMES, ensemble_name
from voxmint.pairs.recipe import CUBIC, EnsembleRecipe, PairRecipe, ViewRecipe
from voxmint.randomness import Stream
from voxmint.sample import JSON, Layout, Sample, Sampler
from voxmint.templates.bank import TemplateBank

PUBLISHED_COUNT = 120_000
"""Number of pairs in the published data set."""


class EnsembleSampler(Sampler):
    """Label ensembles: ``sampler[i]`` depends on (recipe, bank, seed, i) alone.

    Each sample has ``seg``, uint8 (I, J, K).

    Parameters
    ----------
    recipe : EnsembleRecipe
        How ensembles are made.
    bank : TemplateBank or path
        The templates.
    seed : int
        Seed of the data set.
    count : int
        Number of samples; sample i does not depend on it.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> sample = vm.EnsembleSampler(vm.EnsembleRecipe(side=16), "bank", seed=0)[0]
    >>> sample.arrays["seg"].shape
    (16, 16, 16)
    """

    arrays: ClassVar[tuple[str, ...]] = ("seg",)
    generator: ClassVar[str] = "pairs.ensembles"
    recipe_type: ClassVar[type[EnsembleRecipe]] = EnsembleRecipe

    def __init__(
        self, recipe: EnsembleRecipe, bank: TemplateBank | str | Path, seed: int = 0, count: int = PUBLISHED_COUNT
    ) -> None:
        self.recipe, self.seed, self.count = recipe, int(seed), int(count)
        self.bank = TemplateBank.open(bank) if isinstance(bank, (str, Path)) else bank

    def __len__(self) -> int:
        return self.count

    def make(self, index: int) -> Sample:
        """Draw the parameters of ensemble ``index``, and make it."""
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled
        from voxmint.pairs.engines.cpu.ensemble import make_ensemble

        ensure_compiled()
        parameters = draw_ensemble(Stream(self.seed, index, "ensemble"), self.recipe, len(self.bank))
        labels = make_ensemble(self.bank, parameters, self.recipe.volume)
        return self._finish(index, ensemble_name(self.seed, index, parameters), labels, self._named(parameters))

    def _finish(self, index: int, key: str, labels: NDArray[np.uint8], ensemble: JSON) -> Sample:
        return Sample(index, key, {"seg": labels}, self._record(ensemble=ensemble))

    def _record(self, **drawn: Any) -> JSON:
        """Return the record of a sample; it states a voxel size only where there is one."""
        size = self.recipe.voxel_size
        return drawn if size == CUBIC else drawn | {"voxel_size": list(size)}

    def _named(self, parameters: JSON) -> JSON:
        templates = [
            {"label": drawn["label"], "name": self.bank.name(drawn["template"])} | drawn
            for drawn in parameters["templates"]
        ]
        return parameters | {"templates": templates}

    def layout(self) -> Layout:
        """Return shape and dtype of each array."""
        shape = self.recipe.volume
        shapes = {"img": ((2, *shape), "uint8"), "seg": (shape, "uint8")}
        return {name: shapes[name] for name in self.arrays}

    def definition(self) -> JSON:
        """Return generator, seed, bank and recipe: all that decides the samples."""
        return {"generator": self.generator, "seed": self.seed, "templates": self.bank.identity(),
                "recipe": self.recipe.to_dict()}  # fmt: skip

    def access(self) -> JSON:
        """Return where the bank lies, and how many samples there are."""
        return {"templates": str(self.bank.path.absolute()), "stamp": self.bank.proven, "count": self.count}

    @classmethod
    def open(cls, definition: JSON, access: JSON) -> Self:
        """Build from a definition.

        Raises
        ------
        TemplateBankError
            The bank is gone, or its content is not the one that the samples are made of.
        """
        about = definition["templates"]
        place = access.get("templates") or about.get("address")
        if place is None or ("templates" not in access and not Path(place).exists()):
            raise TemplateBankError("the templates of this data set lie elsewhere", where=place,
                                    expected=f"fingerprint {about.get('fingerprint')}",
                                    remedy="name them: --templates")  # fmt: skip
        bank = TemplateBank.open(place, fingerprint=about["fingerprint"], stamp=access.get("stamp"))
        count = access.get("count") or definition.get("count") or PUBLISHED_COUNT
        return cls(cls.recipe_type.from_dict(definition["recipe"]), bank, int(definition["seed"]), int(count))

    def prepare(self) -> None:
        """Compile the kernels, or load them compiled."""
        from voxmint.pairs.engines.cpu.compiled import ensure_compiled

        ensure_compiled()

    def check(self) -> None:
        """Raise `TemplateBankError` if the bank's content is not what it was, or not what it says of itself."""
        self.bank.verify()


class PairSampler(EnsembleSampler):
    """Pairs: a label ensemble and two views that share its geometry and nothing else.

    Each sample has ``seg``, uint8 (I, J, K), and ``img``, uint8 (2, I, J, K), axes (view, i, j, k).

    Parameters
    ----------
    recipe : PairRecipe
        How ensembles and views are made.
    bank, seed, count
        As for `EnsembleSampler`.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> sample = vm.PairSampler(vm.PairRecipe(side=16), "bank", seed=0)[0]
    >>> {name: array.shape for name, array in sorted(sample.arrays.items())}
    {'img': (2, 16, 16, 16), 'seg': (16, 16, 16)}
    """

    arrays: ClassVar[tuple[str, ...]] = ("img", "seg")
    generator: ClassVar[str] = "pairs"
    recipe_type: ClassVar[type[EnsembleRecipe]] = PairRecipe
    recipe: PairRecipe

    def _finish(self, index: int, key: str, labels: NDArray[np.uint8], ensemble: JSON) -> Sample:
        images, drawn = make_views(labels, self.recipe.view, self.seed, key)
        return Sample(index, key, {"img": images, "seg": labels}, self._record(ensemble=ensemble, views=drawn))


def make_views(
    labels: NDArray[np.uint8], recipe: ViewRecipe, seed: int, key: str
) -> tuple[NDArray[np.uint8], list[JSON]]:
    """Render two views of a label volume.

    The draws depend on the seed and on the ensemble's name alone, so that views made later from a file are those that a
    run makes in one go.

    Parameters
    ----------
    labels : uint8 (I, J, K)
        Label volume.
    recipe : ViewRecipe
        How views are made.
    seed : int
        Seed of the data set.
    key : str
        Name of the ensemble.

    Returns
    -------
    images : uint8 (2, I, J, K)
        The views.
    drawn : list of dict
        Their parameters, see `voxmint.pairs.draws.draw_view`.
    """
    from voxmint.pairs.engines.cpu.appearance import labels_present, render

    labels = np.ascontiguousarray(labels)
    present = labels_present(labels)
    images = np.empty((len(VIEW_NAMES), *labels.shape), np.uint8)
    drawn = []
    for number, name in enumerate(VIEW_NAMES):
        parameters = draw_view(Stream(seed, key, name), recipe, present, labels.shape)
        images[number] = render(labels, parameters, recipe.texture_strength)
        drawn.append(parameters)
    return images, drawn
