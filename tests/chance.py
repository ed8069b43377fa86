"""Randomness of tests that look for rare failures: new each time, told, and repeatable."""

from __future__ import annotations

import os
import random


def chance() -> random.Random:
    """Return a generator whose seed is printed before anything can fail; ``TEST_SEED`` in the environment sets it."""
    seed = int(os.environ.get("TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"\nTEST_SEED={seed}")
    return random.Random(seed)
