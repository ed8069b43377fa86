"""What becomes of errors: one message on standard error, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from cyclopts import CycloptsError

from voxmint.errors import VoxmintError
from voxmint.stores.secrets import scrub

if TYPE_CHECKING:
    from pydantic import ValidationError


def told(job: Callable[[], object]) -> int:
    """Do a job and return its exit status: 0, or 1 after telling what failed, 2 for wrong flags, 130 after Ctrl-C."""
    try:
        status = job()
    except CycloptsError as error:
        sys.stderr.write(
            f"voxmint: {scrub(_reason(error))}\n  remedy: see `voxmint --help` or the help of the command\n"
        )
        return 2
    except VoxmintError as error:
        sys.stderr.write(f"voxmint: {scrub(str(error))}\n")
        return 1
    except KeyboardInterrupt as error:
        sys.stderr.write(f"voxmint: {str(error) or 'stopped'}\n")
        return 130
    except BrokenPipeError:
        return 1
    return status if isinstance(status, int) else 0


def _reason(error: CycloptsError) -> str:
    """Return the one sentence of a wrong recipe without what the validation library wraps around it."""
    cause: ValidationError | None = getattr(error, "exception", None) or error.__cause__  # type: ignore[assignment]
    if cause is not None and hasattr(cause, "errors"):
        for detail in cause.errors():
            inner = detail.get("ctx", {}).get("error")
            if inner is not None:
                return str(inner)
    return str(error)
