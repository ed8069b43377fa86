"""What a sampler may offer beyond the protocol, so that runs suit it; each is an attribute that most leave out.

``batch`` : int
    How many samples it likes to make together, through ``stream``; 1 if left out.
``order()`` : sequence of int
    All indices, those that are best made one after the other next to each other; ascending if left out.
``rejects`` : bool
    Whether some indices may turn out to have no sample; if so, there is a list of rejected ones even when it is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from voxmint.errors import PlanError
from voxmint.sample import Sampler


def batch_of(sampler: Sampler) -> int:
    """Return how many samples are made together."""
    return max(1, int(getattr(sampler, "batch", 1)))


def may_reject(sampler: Sampler) -> bool:
    """Return whether the sampler says that it may reject."""
    return bool(getattr(sampler, "rejects", False))


def in_order(sampler: Sampler, wanted: Sequence[int]) -> list[int]:
    """Return the wanted indices (ascending) in the order in which the sampler likes to make them.

    Raises
    ------
    PlanError
        Its order leaves out indices or has some twice.
    """
    order: Callable[[], Sequence[int]] | None = getattr(sampler, "order", None)
    if order is None or not wanted:
        return list(wanted)
    suggested = [int(index) for index in order()]
    if sorted(suggested) != list(range(len(sampler))):
        raise PlanError("the sampler's order does not have every index once", where=type(sampler).__name__,
                        expected=f"0 to {len(sampler) - 1}", got=f"{len(suggested)} indices")  # fmt: skip
    chosen: Container[int] = frozenset(wanted)
    return [index for index in suggested if index in chosen]
