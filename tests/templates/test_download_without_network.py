"""The download without a network: told from the first moment, over in seconds, with what to do instead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from voxmint.cli import main
from voxmint.errors import DownloadError
from voxmint.templates import download as downloading
from voxmint.templates.download import download

SCRIPT = Path(__file__).parents[2] / "dropin/synthetic_data_generation/generate_training_data.sh"


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """Give addresses that refuse, that take a connection and never answer, and that no name leads to."""
    with socket.socket() as refusing, socket.socket() as silent:
        refusing.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        ports = {"refused": refusing.getsockname()[1], "silent": silent.getsockname()[1]}
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()} | {"unknown": "http://nowhere.invalid"}


@pytest.mark.parametrize("kind", ["refused", "silent", "unknown"])
def test_it_is_over_in_time(addresses: dict[str, str], kind: str, tmp_path: Path) -> None:
    """Whatever is wrong, the error comes when patience ends and names address, folder and the way without."""
    said: list[tuple[float, str]] = []
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no connection") as caught:
        download("v1", tmp_path, base_url=addresses[kind], pause=0.3, patience=1.0,
                 tell=lambda text: said.append((time.monotonic() - start, text)))  # fmt: skip
    assert time.monotonic() - start < 3
    host = addresses[kind].partition("://")[2]
    assert said[0][1] == f"asking {host}"
    assert said[0][0] < 0.5
    assert any(("no answer from" if kind == "silent" else "asked again") in text for _, text in said[1:])
    for words in (
        f"{addresses[kind]}/records/6802614",
        str(tmp_path / "totalsegmentator_v1"),
        "--templates procedural",
    ):
        assert words in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_name_server_that_is_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking a name up has no time limit of its own."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no connection"):
        download("v1", tmp_path, base_url="http://somewhere.invalid", patience=0.3)
    assert time.monotonic() - start < 3


def test_the_command_tells_it_in_words(
    addresses: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is asked, that it does not answer, and the error, each a line."""
    monkeypatch.setattr(downloading, "RECORDS", {"v1": 1})
    monkeypatch.setattr("voxmint.templates.fetching.PATIENCE_S", 0.5)
    monkeypatch.setattr("voxmint.templates.fetching._TELL_EVERY_S", 0.2)
    monkeypatch.setenv("HTTPS_PROXY", addresses["silent"])
    assert main(["templates", "download", "v1", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "asking zenodo.org"
    assert told[1].startswith("no answer from zenodo.org")
    assert "--templates procedural" in told[-1]


def test_the_published_script_ends_with_what_to_do(addresses: dict[str, str], tmp_path: Path) -> None:
    """No connection, no traceback, and no step is begun without templates."""
    environment = {**os.environ, "PYTHON": sys.executable, "HTTPS_PROXY": addresses["refused"]}
    start = time.monotonic()
    done = subprocess.run(["bash", str(SCRIPT), "3", "1"], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert time.monotonic() - start < 20  # of which a busy machine takes most to start
    assert done.returncode == 1
    assert done.stderr.startswith("asking zenodo.org\n")
    assert "https://zenodo.org/records/6802614" in done.stderr
    assert "--templatedir procedural" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
