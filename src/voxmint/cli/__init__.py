"""The command line: flags to recipe to call."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    atexit.register(gc.freeze)  # the interpreter would look through all modules once more before it ends
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)  # imports leave next to no garbage, and looking for it takes a fifth of a command's start
    try:
        from voxmint.cli.app import run

        return run(arguments)
    finally:
        gc.set_threshold(*thresholds)
