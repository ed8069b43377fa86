"""Keep the rows with the smallest random priority of a stream, equally many a stratum as far as there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxmint import splitmix
from voxmint.instances.table.parts import release_unused
from voxmint.instances.table.spool import Spool
from voxmint.instances.table.table import Rows
from voxmint.instances.table.values import Integers

Words = NDArray[np.uint64]

_SLACK = 1 << 16


def mix(words: Words) -> Words:
    """Return the first word of SplitMix64 from each state: a bijection, so different ids never share a priority."""
    return splitmix.mix(words + splitmix.GOLDEN)


def mix_cells(cells: Integers, key: np.uint64) -> Words:
    """Return one word for each cell index (n, 3)."""
    words = np.full(len(cells), key)
    for axis in range(cells.shape[1]):
        words = mix(words ^ cells[:, axis].astype(np.uint64))
    return words


class Reservoir:
    """The rows drawn so far: their strata and priorities in memory, all else in a temporary file.

    A row's rank is its place by priority within its stratum; drawn are those with the smallest (rank, word of the
    stratum). With one stratum that is a uniform draw; with many, all give their first row before any gives a second.
    What was discarded once can never be drawn later, since more rows only raise ranks: so the rows held stay bounded
    and the result does not depend on how the stream is cut.

    Parameters
    ----------
    count : int or None
        Rows to draw; None keeps all.
    """

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.offered = 0
        self._rows = Spool()
        self._strata, self._priorities = np.zeros(0, np.uint64), np.zeros(0, np.uint64)  # longer than in use
        self._full: _Limits | None = None

    def add(self, rows: Rows, stratum: Words, priority: Words) -> None:
        """Offer rows, ascending by number, with their strata and priorities: one priority for each id."""
        self.offered += len(rows)
        if self._full is not None:
            near = self._full.admits(stratum, priority)
            rows, stratum, priority = rows.take(near), stratum[near], priority[near]
        if not len(rows):
            return
        held = len(self._rows)
        self._rows.append(rows)
        if len(self._rows) > len(self._strata):
            longer = len(self._rows) + len(self._rows) // 2
            self._strata, self._priorities = (_longer(a, held, longer) for a in (self._strata, self._priorities))
        self._strata[held : len(self._rows)], self._priorities[held : len(self._rows)] = stratum, priority
        if self.count is not None and len(self._rows) > self.count + self.count // 8 + _SLACK:
            self._prune(self.count)

    def drawn(self) -> tuple[Rows, Words, Integers]:
        """Return the rows drawn, the stratum of each, and ids among them that another row has too."""
        if not self.offered:
            raise ValueError("no rows were offered")
        self._full = None
        release_unused()
        held = len(self._rows)
        stratum, priority = self._strata[:held], self._priorities[:held]
        ranked = _Ranked(stratum, priority)
        tied = priority[ranked.order[ranked.tie]]
        place = np.flatnonzero(~ranked.tie)
        place = place[np.argsort(ranked.rank[place], kind="stable")[: self.count]]
        order = ranked.order[place]
        del ranked, place
        stratum, priority = stratum[order], priority[order]
        self._strata = self._priorities = stratum[:0].copy()  # what follows needs the room
        rows = self._rows.ordered(order)
        del order
        ascending = np.sort(priority)
        also = tied[ascending[np.minimum(np.searchsorted(ascending, tied), len(ascending) - 1)] == tied]
        twice = np.union1d(ascending[1:][ascending[1:] == ascending[:-1]], also)
        del ascending
        release_unused()
        ids = np.unique(rows.id[np.isin(priority, twice)]) if twice.size else np.zeros(0, np.int64)
        return rows, stratum, ids

    def _prune(self, count: int) -> None:
        """Keep only what can still be drawn."""
        self._full = None
        release_unused()
        held = len(self._rows)
        stratum, priority = self._strata[:held], self._priorities[:held]
        ranked = _Ranked(stratum, priority)
        order, rank, tie = ranked.order, ranked.rank, ranked.tie
        kept, best = ~tie, None
        if np.count_nonzero(kept) > count:
            worst = np.partition(rank[kept], count - 1)[count - 1]  # the rank that the last row drawn has
            more = count - int(np.count_nonzero(kept & (rank < worst)))
            last = stratum[order[np.flatnonzero(kept & (rank == worst))[more - 1]]]
            kept &= (rank < worst) | ((rank == worst) & (stratum[order] <= last))
            best = order[kept]
        # the first row that ties with one kept is held too: its id is there twice
        kept |= tie & ~np.r_[False, tie[:-1]] & np.r_[False, kept[:-1]]
        mask = np.zeros(held, np.bool_)
        mask[order[kept]] = True
        del ranked, order, rank, tie, kept
        if best is not None:
            by_stratum = stratum[best], priority[best]
            del best
            self._full = _Limits(*by_stratum, int(worst), last)
            del by_stratum
        self._rows.keep(mask)
        stratum[: len(self._rows)], priority[: len(self._rows)] = stratum[mask], priority[mask]
        release_unused()


def _longer(values: Words, used: int, length: int) -> Words:
    result = np.empty(length, np.uint64)
    result[:used] = values[:used]
    return result


class _Ranked:
    """Rows sorted by stratum, then by priority, then as they were offered.

    Attributes
    ----------
    order : ndarray
        Positions of the rows, sorted.
    tie : ndarray of bool
        Which of these have the stratum and priority of the one before, and so its id.
    rank : ndarray
        Their places by priority within their strata; one that ties has that of the one before.
    """

    def __init__(self, stratum: Words, priority: Words) -> None:
        # one sorted copy at a time, and ranks in four bytes while they fit: this is when most memory is needed
        self.order = np.lexsort((priority, stratum))
        fresh, again = (_differs(values[self.order]) for values in (stratum, priority))
        self.tie = ~fresh & ~again
        self.rank = np.cumsum(~self.tie, dtype=_small(len(stratum)))
        first = np.where(fresh, self.rank, 0)
        np.subtract(self.rank, np.maximum.accumulate(first, out=first), out=self.rank)


def _small(count: int) -> type[np.int32 | np.int64]:
    """Return the integers that hold numbers up to ``count``."""
    return np.int32 if count < 1 << 31 else np.int64


def _differs(values: Words) -> NDArray[np.bool_]:
    """Return which values differ from the one before."""
    result = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=result[1:])
    return result


class _Limits:
    """Above which priority a row of a stratum can no longer be drawn, once as many as asked for are held."""

    def __init__(self, stratum: Words, priority: Words, rank: int, last: np.uint64) -> None:
        self._rank, self._last = rank, last
        ends = np.flatnonzero(np.r_[stratum[1:] != stratum[:-1], True])  # sorted by stratum, then by priority
        ends = ends.astype(_small(len(stratum)))
        held = ends.copy()
        held[1:] -= ends[:-1]
        held[0] += 1
        every = len(ends) == len(stratum)
        self._strata, self._worst = (stratum, priority) if every else (stratum[ends], priority[ends])
        self._closed = np.where(self._strata <= last, held > rank, held >= rank)

    def admits(self, stratum: Words, priority: Words) -> NDArray[np.bool_]:
        """Return which rows may still be drawn, those that tie with one held included."""
        at = np.minimum(np.searchsorted(self._strata, stratum), len(self._strata) - 1)
        known = self._strata[at] == stratum
        open_known = ~self._closed[at] | (priority <= self._worst[at])
        open_new = (self._rank > 0) | (stratum <= self._last)
        result: NDArray[np.bool_] = np.where(known, open_known, open_new)
        return result
