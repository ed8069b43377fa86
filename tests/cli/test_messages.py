"""Whatever goes wrong is one message, in subprocesses of their own where the process itself is short of something."""

from __future__ import annotations

import errno
import os
import resource
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from voxmint.cli import main
from voxmint.cli.told import told
from voxmint.phantom.layers import make_phantom

PAIRS = ["pairs", "make", "--count", "1", "--side", "16", "--workers", "1", "--out"]
GENERATOR = Path(__file__).resolve().parents[2] / "dropin/depthwise_segmentation/main_data_generator_gcp.py"


def one_message(said: str) -> bool:
    return said.count("voxmint: ") == 1 and "remedy: " in said and "Traceback" not in said and "bug" not in said


def run(*words: str, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flag that names a small bank."""
    folder = tmp_path_factory.mktemp("bank") / "bank"
    assert main(["templates", "procedural", "--count", "3", "--workers", "1", "--out", str(folder)]) == 0
    return ["--templates", str(folder)]


@pytest.mark.parametrize("name", ["a" * 300, os.fsdecode(b"bad\xff")], ids=["long", "not UTF-8"])
def test_an_impossible_name_is_told(tmp_path, monkeypatch, capsys, name) -> None:
    """One longer than file systems have, and one that no recipe can record; nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert main([*PAIRS, name]) == 1
    assert one_message(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[*PAIRS, "out"], ["verify", "out"], ["montage", "out"]], ids=lambda words: words[0])
def test_a_removed_working_directory_is_told(tmp_path, monkeypatch, capsys, words) -> None:
    """It says that, not that some file is missing."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, said = main(words), capsys.readouterr().err
    monkeypatch.undo()
    assert status == 1
    assert one_message(said)
    assert "current directory was removed" in said


def test_few_files_may_be_open(tmp_path, bank) -> None:
    """With two dozen a run ends well or says so."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))  # noqa: E731
    made = run("-m", "voxmint", *PAIRS, str(tmp_path / "out"), *bank, preexec_fn=limit)
    assert made.returncode == 0 or one_message(made.stderr), made.stderr


@pytest.mark.parametrize("megabytes", [150, 300, 400])
def test_too_little_memory_is_told(tmp_path, bank, megabytes) -> None:
    """While modules are imported, or while samples are made: no traceback (what C libraries say is their own)."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))  # noqa: E731
    made = run("-m", "voxmint", *PAIRS, str(tmp_path / "out"), *bank, preexec_fn=limit)
    assert made.returncode != 0
    assert "Traceback" not in made.stderr
    assert "bug" not in made.stderr
    assert "voxmint: " in made.stderr or "OpenBLAS" in made.stderr or made.returncode < 0  # some just end


def test_deep_yaml_is_refused(tmp_path, capsys) -> None:
    """Nested 5,000 times."""
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 5000 + "]" * 5000)
    assert main([*PAIRS, str(tmp_path / "out"), "--recipe", str(tmp_path / "deep.yaml")]) == 1
    assert one_message(capsys.readouterr().err)


def test_a_bank_has_a_montage(tmp_path, bank) -> None:
    """The picture of its templates."""
    assert main(["montage", bank[1], "--out", str(tmp_path / "montage.png")]) == 0
    assert (tmp_path / "montage.png").stat().st_size


@pytest.mark.parametrize(
    ("name", "value"),
    [("NUMBER_OF_INSTANCES", "ten"), ("WORKERS", "1.5"), ("SEED", ""), ("CROP_VX", "8,8"), ("CROP_VX", "8,8,8.5"),
     ("TABLE_VOXEL_SIZE_NM", "8,x,8"), ("TABLE_VOXEL_SIZE_NM", "8,nan,8"), ("SCENARIOS", "1,2")],
)  # fmt: skip
def test_a_wrong_setting_of_the_generator_is_named(tmp_path, monkeypatch, capsys, name, value) -> None:
    """Before a layer is opened, in one message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(GENERATOR.parent)
    monkeypatch.setattr("voxmint.cli.signals.stoppable", lambda: None)  # it lasts to the end of a process
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(GENERATOR), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert one_message(said)
    assert f"voxmint: {name}: " in said


def test_a_flipped_byte_of_the_rows_is_told(tmp_path, capsys) -> None:
    """Wherever it lies in the file, a rerun, a verification and a repair say what is wrong, or mend it."""
    phantom = tmp_path / "phantom"
    make_phantom(phantom, size=(256, 256, 32), instances=12)
    words = ["instances", "make", "--source", f"{phantom}/source", "--target", f"{phantom}/target", "--count", "2",
             "--table", f"{phantom}/materialization.csv", "--table-voxel-size", "16,16,30", "--crop", "16,16,8",
             "--workers", "1", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0
    rows = next((tmp_path / "out").rglob("rows.npy"))
    data = rows.read_bytes()
    for place in (1, 10, 60, len(data) - 3):
        rows.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        for command in (["verify", str(tmp_path / "out")], ["repair", str(tmp_path / "out")], words):
            capsys.readouterr()
            status, said = main(command), capsys.readouterr().err
            assert "Traceback" not in said
            assert "bug" not in said
            assert status == 0 or command[0] == "verify" or one_message(said), said


def raising(error: BaseException):
    def job() -> None:
        raise error

    return job


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.EROFS, "Read-only file system", "some/file"), OSError(errno.EMFILE, "Too many"),
     ImportError("libx.so: failed to map segment from shared object")],
    ids=["memory", "read-only", "files", "import"],
)  # fmt: skip
def test_errors_of_the_system_are_told(capsys, error) -> None:
    """Each with a remedy."""
    assert told(raising(error)) == 1
    assert one_message(capsys.readouterr().err)


@pytest.mark.parametrize("shown", [False, True])
def test_what_nobody_expected_is_a_bug(tmp_path, monkeypatch, capsys, shown) -> None:
    """One message with type and text; the traceback is in a file or, if asked for, shown, without secrets."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if shown:
        monkeypatch.setenv("VOXMINT_TRACEBACK", "1")
    assert told(raising(KeyError("gs://user:hunter2@bucket"))) == 1
    said = capsys.readouterr().err
    assert "a bug of voxmint" in said
    assert "KeyError" in said
    files = list(tmp_path.iterdir())
    text = said if shown else files[0].read_text()
    assert ("Traceback" in said, len(files)) == ((True, 0) if shown else (False, 1))
    assert "Traceback" in text
    assert "hunter2" not in text + said
    assert shown or str(files[0]) in said
