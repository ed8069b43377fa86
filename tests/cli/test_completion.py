"""Completion of commands by the shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from voxmint.cli import main


def test_bash_learns_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that is installed completes what was begun; a line that loads it is all else that is written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "voxmint.bash"
    assert main(["--install-completion", "--shell", "bash", "--output", str(script)]) in (0, None)
    ask = f"COMP_WORDS=(voxmint ins); COMP_CWORD=1; . {script}; _voxmint; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["instances"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bashrc", "voxmint.bash"]
