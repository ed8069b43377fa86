"""Code run as somebody whom permissions bind: root may read everything, so a test that runs as root tells nothing."""

from __future__ import annotations

import subprocess
import sys

# Root keeps its name, so that it still reaches its own folders, but without the right to pass over permissions. The
# threads and processes started later have no more rights than the one that starts them.
_DROP = """if True:
    import ctypes, os
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
            raise OSError(ctypes.get_errno(), "cannot drop root's rights")
"""
READ_TWO_CHUNKS = """if True:
    import sys
    from voxmint.volumes.box import Box
    from voxmint.errors import ChunkError
    from voxmint.volumes.opening import open_layer
    layer = open_layer(sys.argv[1], reader=sys.argv[2], sparse=True, attempts=1)
    first, second = (Box.at((x, *layer.bounds.start[1:]), (4, 4, 4)) for x in (layer.bounds.start[0], 40))
    assert layer.read(second).array.any()
    try:
        layer.read(first)
    except ChunkError as error:
        print(error.cause)
"""
"""Prints why the first chunk of a layer, given with its reader, cannot be read, after another one was."""


def run_unprivileged(code: str, *arguments: object) -> str:
    """Return what Python code prints in a process of its own that permissions bind."""
    command = [sys.executable, "-c", f"{_DROP}\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
