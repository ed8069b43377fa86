"""The examples of every public name run, each in an empty folder, and say what they say."""

from __future__ import annotations

import doctest

import pytest

import voxmint


@pytest.mark.parametrize("name", voxmint.__all__)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch) -> None:
    """Its `help` ends in an example, which gives what it shows."""
    monkeypatch.chdir(tmp_path)
    thing = getattr(voxmint, name)
    examples = [test for test in doctest.DocTestFinder(recurse=False).find(thing, name) if test.examples]
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for test in examples:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
