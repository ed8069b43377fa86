"""Shared by the tests of runs: both formats, and runs in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from toy import ToySampler

from stores import FORMATS
from voxmint.datasets.format import Format
from voxmint.runs.execute import execute


@pytest.fixture(params=list(FORMATS))
def format(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    """The data set of `ToySampler`, made once a format by one worker: to be read, not changed."""
    directories: dict[str, Path] = {}

    def of(format: Format) -> Path:
        name = json.dumps(format.spec())
        if name not in directories:
            directories[name] = tmp_path_factory.mktemp("made")
            execute(ToySampler(), format, directories[name], workers=1)
        return directories[name]

    return of


@pytest.fixture
def copied(made, tmp_path: Path):
    """A copy of that data set, to be changed."""
    return lambda format: shutil.copytree(made(format), tmp_path, dirs_exist_ok=True)


class Driver:
    """Starts runs that can be killed."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, sampler: ToySampler, format: Format, directory: Path, workers: int = 2, **options: object):
        job = {"sampler": asdict(sampler), "format": format.spec(), "directory": str(directory), "workers": workers}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "drive.py"), json.dumps(job | options)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, sampler: ToySampler, format: Format, directory: Path, workers: int = 2) -> tuple[int, str]:
        process = self.start(sampler, format, directory, workers)
        _, said = process.communicate(timeout=120)
        return process.returncode, said


@pytest.fixture
def driver():
    made = Driver()
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
