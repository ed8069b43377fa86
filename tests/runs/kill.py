"""Kills this process's child at any of the moments in which it changes the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

CHANGES = [
    *((os, name) for name in ("pwrite", "ftruncate", "fsync")),
    *((Path, name) for name in ("replace", "unlink")),
    (h5py.Group, "__delitem__"),
]
"""Every way in which the end of a run and a repair change the disk, but for plain writes to drafts."""


def killed_at(step: int, action: Callable[[], Any]) -> bool:
    """Run ``action`` in a child that is killed before its ``step``-th change of the disk; False if it ended before."""
    child = os.fork()
    if not child:
        try:
            _arm(step)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), "the child failed"
    return status != 0


def stop_before_the_end(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Run ``action``, whose run is stopped when all samples are made and nothing has its final name."""
    import voxmint.runs.execute as module

    def stop(*_: object, **__: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", stop)
        with pytest.raises(InterruptedError):
            action()


def _arm(step: int) -> None:
    passed = 0

    def deadly(change: Callable[..., Any]) -> Callable[..., Any]:
        def change_or_die(*arguments: Any, **named: Any) -> Any:
            nonlocal passed
            if passed == step:
                os.kill(os.getpid(), signal.SIGKILL)
            passed += 1
            return change(*arguments, **named)

        return change_or_die

    for owner, name in CHANGES:
        setattr(owner, name, deadly(getattr(owner, name)))
