"""Worker processes that begin warm: forked from one that has imported the library and loaded its kernels.

They run `voxmint.runs.local.worker` like all others, in processes of their own, but for the first second of each: the
tests start some hundred of them. A run in a process of its own, as the command line is, starts its workers as ever.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from types import SimpleNamespace
from typing import Any

WORKER = [sys.executable, "-P", "-m", "voxmint.runs.local.worker"]
IMPORTED = [
    *(
        "h5py",
        "nibabel",
        "tensorstore",
        "voxmint.runs.local.worker",
        "voxmint.pairs.sampler",
        "voxmint.volumes.opening",
    ),
    *(f"voxmint.datasets.{name}" for name in ("bank", "hdf5", "nifti", "npy")),
]
"""What workers use, but for what starts threads: those do not live on in a fork."""
DECIDES = ("NUMBA_", "LD_", "PYTHON")
"""What of the environment counts when a process begins; where it differs, a worker begins cold."""


def decides(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(DECIDES) and name != "PYTHONPATH"}


class Warm:
    """The process that workers are forked from; started with the first of them, ended with this one."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def popen(self, words: list[str], *, env: dict[str, str], **options: Any) -> Any:
        """Start a process as `subprocess.Popen` does, a worker warm."""
        if words != WORKER or sys.platform != "linux":
            return subprocess.Popen(words, env=env, **options)
        if self.process is None:
            self._begin(env)
        if decides(env) != self.environment:
            return subprocess.Popen(words, env=env, **options)
        return Forked(self.line, env)

    def _begin(self, environment: dict[str, str]) -> None:
        self.line, other = socket.socketpair()
        with other:
            words = [sys.executable, "-P", __file__, str(other.fileno())]
            self.process = subprocess.Popen(
                words, env=environment, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.environment = decides(environment)

    def end(self) -> None:
        """End it."""
        if self.process is not None:
            self.line.close()
            self.process.wait(timeout=60)


class Forked:
    """What a run knows of a worker that was forked: what it uses of `subprocess.Popen`."""

    def __init__(self, line: socket.socket, environment: dict[str, str]) -> None:
        pipes = [os.pipe() for _ in range(4)]
        (theirs_in, ours_in), *others = pipes
        theirs = [theirs_in, *(write for _, write in others)]
        ours_out, ours_err, self._news = (read for read, _ in others)
        about = json.dumps({"environment": environment, "folder": _folder()}).encode()
        line.sendall(len(about).to_bytes(8, "little"))
        line.sendmsg([about[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs))])
        line.sendall(about[1:])
        for number in theirs:
            os.close(number)
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(ours_in, "wb"),
            os.fdopen(ours_out, "rb"),
            os.fdopen(ours_err, "rb"),
        )
        self.returncode: int | None = None
        self.pid = int.from_bytes(os.read(self._news, 8), "little")

    def poll(self) -> int | None:
        """Return how it ended, None if it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return how it ended."""
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(WORKER, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(os.read(self._news, 8), "little"))
            os.close(self._news)
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it lives."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _folder() -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return os.getcwd()  # noqa: PTH109 - Path would fail as well
    return None


def namespace(warm: Warm) -> SimpleNamespace:
    """Return what stands in for the module `subprocess` where workers are started."""
    return SimpleNamespace(Popen=warm.popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)


def serve(line: socket.socket) -> None:
    """Import, then fork a worker for each request, and tell each how it ended, until nobody asks any more."""
    for name in IMPORTED:
        importlib.import_module(name)
    from voxmint.pairs.engines.cpu.compiled import ensure_compiled as ensure_pairs
    from voxmint.templates.procedural.compiled import ensure_compiled as ensure_templates

    ensure_pairs()
    ensure_templates()
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not be forked"  # noqa: PTH208
    wake, ended = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(ended, False)
    signal.set_wakeup_fd(ended)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    news: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([line, wake], [], [])
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 1 << 10)
            for pid in list(news):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    with contextlib.suppress(BrokenPipeError):
                        os.write(news[pid], status.to_bytes(8, "little"))
                    os.close(news.pop(pid))
        if line in ready:
            size = line.recv(8, socket.MSG_WAITALL)
            if not size:
                return
            about, fds, _, _ = socket.recv_fds(line, 1, 4)
            rest = line.recv(int.from_bytes(size, "little") - 1, socket.MSG_WAITALL)
            pid = os.fork()
            if not pid:
                line.close()
                for number in (*news.values(), fds[3], wake, ended):
                    os.close(number)
                become(json.loads(about + rest), fds[:3])
            for number in fds[:3]:
                os.close(number)
            news[pid] = fds[3]
            os.write(fds[3], pid.to_bytes(8, "little"))


def become(about: dict[str, Any], pipes: list[int]) -> None:
    """Be a worker, to the end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, pipe in enumerate(pipes):
            os.dup2(pipe, number)
            os.close(pipe)
        if about["folder"] is not None:
            os.chdir(about["folder"])
        os.environ.clear()
        os.environ.update(about["environment"])
        own = [path for path in sys.path if path not in FIRST]
        sys.path[:] = dict.fromkeys([*os.environ["PYTHONPATH"].split(os.pathsep), *own])
        from voxmint.runs.local.worker import main

        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    FIRST = os.environ["PYTHONPATH"].split(os.pathsep)
    serve(socket.socket(fileno=int(sys.argv[1])))
