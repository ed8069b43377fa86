"""Batches of neighbours, shared among workers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voxmint.runs.local.shares import Shares


@given(st.permutations(range(17)), st.integers(1, 5), st.integers(1, 3), st.data())
def test_every_index_is_taken_once_however_workers_take_turns(indices, batch, workers, data):
    """In any order of turns, with batches put back, every index is taken once, in runs of the given order."""
    shares, taken = Shares(indices, batch, workers), []
    while shares:
        got = shares.take(data.draw(st.integers(0, workers - 1)))
        assert got is not None
        place = indices.index(got[0])
        assert len(got) <= batch
        assert indices[place : place + len(got)] == got
        if data.draw(st.integers(0, 3)) == 3:
            shares.put_back([got])
        else:
            taken += got
    assert sorted(taken) == sorted(indices)
    assert shares.take(0) is None


def test_workers_keep_to_their_own_stretch():
    """Two workers that take turns go through one half each; who is done helps at the other's far end."""
    shares = Shares(range(40), 5, 2)
    assert [shares.take(0), shares.take(1), shares.take(0)] == [
        [0, 1, 2, 3, 4],
        [20, 21, 22, 23, 24],
        [5, 6, 7, 8, 9],
    ]
    for _ in range(2):
        shares.take(0)
    assert shares.take(0) == [35, 36, 37, 38, 39]


def test_single_samples_go_out_in_order_to_whoever_is_free():
    """Without batches, any worker takes the next index."""
    shares = Shares(range(4), 1, 2)
    assert [shares.take(1), shares.take(1), shares.take(0), shares.take(1), shares.take(0)] == [
        [0],
        [1],
        [2],
        [3],
        None,
    ]


def test_what_was_put_back_is_made_first():
    """Batches that come back go first, in their order, and then samples that are tried again."""
    shares = Shares(range(3), 1, 1)
    shares.take(0)
    shares.again(0)
    shares.put_back([[7], [8, 9]])
    assert [shares.take(0) for _ in range(3)] == [[7], [8, 9], [0]]


def test_few_samples_are_shared_evenly():
    """A batch that would leave workers without any is cut."""
    assert Shares(range(10), 64, 3).take(0) == [0, 1, 2, 3]
