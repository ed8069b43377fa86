"""SplitMix64 gives the published words, as plain Python and compiled."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba import config

from voxmint.splitmix import GOLDEN, mix

PUBLISHED = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
"""The first words of the generator with seed 1234567."""
STATES = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * GOLDEN


def test_arrays_give_the_published_words() -> None:
    """The words of seed 1234567 are those of the authors' program."""
    assert mix(STATES).tolist() == PUBLISHED


def test_a_number_gives_what_an_array_gives() -> None:
    """One state at a time, the words are the same, and of the same type."""
    with np.errstate(over="ignore"):
        words = [mix(state) for state in STATES]
    assert words == PUBLISHED
    assert {type(word) for word in words} == {np.uint64}


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the compiler is off")
def test_compiled_it_gives_the_same() -> None:
    """So are they compiled, with a second key and without."""
    compiled = numba.njit(mix)
    second = np.uint64(1 << 63 | 12345)
    assert compiled(STATES[0]) == PUBLISHED[0]
    assert compiled(STATES).tolist() == PUBLISHED
    assert compiled(STATES, second).tolist() == mix(STATES, second).tolist() != PUBLISHED
