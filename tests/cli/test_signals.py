"""Commands that are stopped: what is stored is recorded, one line says so, and the status is what shells expect."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from voxmint.cli.signals import STOPPED, signals_stop
from voxmint.cli.told import told

ROOT = Path(__file__).resolve().parents[2]
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
RUN = f"""
import sys
sys.path.append({str(ROOT / "tests" / "runs")!r})
from voxmint.cli.signals import stoppable
from voxmint.cli.told import told
stoppable()

def run():
    from toy import ToySampler
    import voxmint.runs.commit as module
    from stores import FORMATS
    from voxmint.runs.execute import execute
    module.GROUP_SECONDS = 100
    sampler = ToySampler(length=8, seconds=0.05, log=sys.argv[2], faults={{"7": "sleep"}})
    execute(sampler, FORMATS["nifti"], sys.argv[1], workers=2)

sys.exit(told(run))
"""
"""A run of two workers that never ends, and records by itself only what it is stopped with."""
SLEEP = """
import sys, time
from voxmint.cli.signals import stoppable
from voxmint.cli.told import told
stoppable()

def job():
    try:
        print("there", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(float(sys.argv[1]))

sys.exit(told(job))
"""


@pytest.fixture
def start() -> Iterator:
    started = []

    def begin(*words: str, **more) -> subprocess.Popen[str]:
        as_in_a_terminal = [sys.executable, "-c", textwrap.dedent("""
            import os, signal, sys
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"""), *words]  # fmt: skip
        process = subprocess.Popen(
            as_in_a_terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("to_all", [False, True], ids=["parent", "all"])
@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_run_that_is_stopped_records_what_is_stored(start, tmp_path, number, to_all) -> None:
    """Each signal ends workers and run in order, be it sent to the workers as well; one line says how to go on."""
    log, out = tmp_path / "log", tmp_path / "out"
    log.mkdir()
    process = start("-c", RUN, str(out), str(log))
    wait_for((log / "7").exists)
    workers = {int(path.read_text()) for path in log.iterdir() if path.read_text()}
    for one in [*(workers if to_all else ()), process.pid]:
        os.kill(one, number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == STATUS[number]
    assert "the same command goes on" in said
    assert said.count("\n") == 1
    assert len((out / ".voxmint" / "ledger.jsonl").read_bytes().splitlines()) >= 5
    wait_for(lambda: all(map(is_gone, workers)))


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_later_signal_ends_what_is_ending_at_once(start, number) -> None:
    """A second wish, a second later, is no traceback, and does not wait."""
    process = start("-c", SLEEP, "50")
    for word in ("there\n", "ending\n"):
        assert process.stdout.readline() == word
        process.send_signal(number)
        time.sleep(1.2 if word == "there\n" else 0)
    said = process.communicate(timeout=10)[1]
    assert (process.returncode, said) == (STATUS[number], f"voxmint: {STOPPED}\n")


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_signals_that_come_together_are_one(start, number) -> None:
    """A closing terminal sends two: the end in order goes on."""
    process = start("-c", SLEEP, "0.5")
    process.stdout.readline()
    process.send_signal(number)
    process.stdout.readline()
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.05)
    said = process.communicate(timeout=10)[1]
    assert (process.returncode, said) == (STATUS[number], f"voxmint: {STOPPED}\n")


COMMANDS = {
    "module": ["-m", "voxmint", "templates", "procedural", "--out", "out"],
    "step 0": [str(ROOT / "dropin/synthetic_data_generation/step0_preprocess_totalsegmentator.py")],
    "step 1": [str(ROOT / "dropin/synthetic_data_generation/step1_generate_labels.py")],
    "step 2": [str(ROOT / "dropin/synthetic_data_generation/step2_generate_views.py")],
    "step 3": [str(ROOT / "dropin/synthetic_data_generation/step3_generate_h5_w_segs.py")],
    "instances": [str(ROOT / "dropin/depthwise_segmentation/main_data_generator_gcp.py")],
}


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_stopped_while_it_imports_says_one_line(start, tmp_path, command, number) -> None:
    """While numpy is imported, by every way in: no traceback, no advice to install anything."""
    (tmp_path / "numpy.py").write_text(
        f"from pathlib import Path\nimport time\nPath({str(tmp_path / 'mark')!r}).touch()\n"
        "try:\n    time.sleep(60)\nexcept BaseException:\n    raise ImportError('cannot import numpy')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])}
    process = start(*COMMANDS[command], env=environment, cwd=tmp_path)
    wait_for((tmp_path / "mark").exists)
    time.sleep(0.1)  # what the mark is made with may be at work: Python drops what is raised in some places
    process.send_signal(number)
    assert process.communicate(timeout=10)[1] == f"voxmint: {STOPPED}\n"
    assert process.returncode == STATUS[number]


def test_what_is_ignored_stays_ignored(tmp_path) -> None:
    """A terminal that closes does not end a command under nohup, nor Ctrl-C one in the background of a shell."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STATUS}
    try:
        with signals_stop() as asked:
            for number in STATUS:
                signal.raise_signal(number)
        assert asked.by == 0
        assert [signal.getsignal(number) for number in STATUS] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(shutil.which("nohup") is None, reason="needs nohup")
def test_a_command_under_nohup_outlives_its_terminal(start) -> None:
    """SIGHUP changes nothing there."""
    program = "import os; os.execvp('nohup', ['nohup', os.sys.executable, *os.sys.argv[1:]])"
    process = start("-c", program, "-c", SLEEP.replace("time.sleep(60)", "time.sleep(1)"), "0")
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_handlers_are_put_back(number) -> None:
    """Who calls a job from a program of its own has its own handlers again, whatever became of the job."""
    calls: list[int] = []

    def own(got: int, _: object) -> None:
        calls.append(got)

    before = signal.signal(number, own)
    try:
        assert told(lambda: signal.raise_signal(number)) == STATUS[number]
        assert calls == []
        signal.raise_signal(number)
        assert calls == [number]
    finally:
        signal.signal(number, before)
