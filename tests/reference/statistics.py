"""Features of many pairs, and the tests that tell whether two sets of pairs come from one distribution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from reference.features import Image, Volume, label_features, noise_asymmetry, pair_features, view_features

Features = dict[str, Image]
"""Values of each feature over many samples (or views), by name."""


def collect(found: Iterable[Mapping[str, float]]) -> Features:
    """Return the values of each feature over many descriptions."""
    rows: dict[str, list[float]] = {}
    for features in found:
        for name, value in features.items():
            rows.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in rows.items()}


def gather(pairs: Iterable[tuple[Volume, Volume, Volume]]) -> Features:
    """Collect all features of many pairs (labels, view1, view2); a view's features have two values a pair."""

    def describe() -> Iterator[dict[str, float]]:
        for labels, view1, view2 in pairs:
            yield label_features(labels)
            yield pair_features(labels, view1, view2)
            for view in (view1, view2):
                yield view_features(labels, view)
                yield noise_asymmetry(labels, view)

    return collect(describe())


def compare(ours: Features, reference: Features, names: Sequence[str] | None = None) -> dict[str, float]:
    """Return a p-value for each feature: that both sets come from one distribution.

    Three tests, for shape (Kolmogorov-Smirnov), location (Mann-Whitney) and spread (Brown-Forsythe on ranks), whose
    smallest p-value is tripled; Fisher's exact test for what either is or is not. The asymmetries between axes are
    tested against 0 instead (Wilcoxon), on ours alone.
    """
    return {name: _p_value(name, ours[name], reference[name]) for name in names or ours}


def _p_value(name: str, a: Image, b: Image) -> float:
    if name.startswith("noise."):
        return float(stats.wilcoxon(a).pvalue)
    if ".has_" in name:
        return float(stats.fisher_exact([[a.sum(), len(a) - a.sum()], [b.sum(), len(b) - b.sum()]]).pvalue)
    if np.ptp(np.concatenate([a, b])) == 0:
        return 1.0
    ranks = stats.rankdata(np.concatenate([a, b]))
    tests = (
        stats.ks_2samp(a, b, method="asymp"),
        stats.mannwhitneyu(a, b),
        stats.levene(ranks[: len(a)], ranks[len(a) :], center="median"),
    )
    return min(1.0, 3 * min(float(test.pvalue) for test in tests))


def rejected(p: Mapping[str, float], threshold: float) -> dict[str, float]:
    """Return the features whose p-value is under ``threshold``, worst first."""
    return dict(sorted(((name, value) for name, value in p.items() if value < threshold), key=lambda item: item[1]))
