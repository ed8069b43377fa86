"""The command line: flags to recipe to call."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status. Without arguments it is the one of this process, and its last."""
    if arguments is None:
        stoppable()
    atexit.register(gc.freeze)  # the interpreter would look through all modules once more before it ends
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)  # imports leave next to no garbage, and looking for it takes a fifth of a command's start
    try:
        return told(lambda: _run(arguments))
    finally:
        gc.set_threshold(*thresholds)


def _run(arguments: Sequence[str] | None) -> object:
    from voxmint.cli.app import app
    from voxmint.cli.lists import apart

    return app(apart(sys.argv[1:] if arguments is None else arguments), exit_on_error=False, print_error=False)
