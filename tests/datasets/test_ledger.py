"""The ledger of an unfinished run, read once."""

from __future__ import annotations

import json

import pytest

from voxmint.datasets.ledger import Ledger, index_of, read_ledger
from voxmint.datasets.lines import compact, parse

TEXT = 'a "b" },"files":[{}] \\ ],"reads":{ "sample": \n µ \u2028'
VALUES = {TEXT: [TEXT, 0.1, 1e-7, 1e16, 5e-324, -0.0, 2**70, None, True], "files": [{"files": []}], "sample": {}}


def entry(index: int, files: list[dict[str, object]] | None = None) -> dict[str, object]:
    about = {"index": index, "key": TEXT, "digest": "00" * 32, "record": VALUES}
    return {"sample": about, "files": files or []}


def rejected(index: int) -> dict[str, object]:
    return {"rejected": {"index": index, "key": "", "reason": TEXT, "record": VALUES}}


def test_records_are_the_text_that_was_recorded(tmp_path) -> None:
    """Whatever a record holds, its text is cut out of the ledger's line as it would be written anew; by index."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append([entry(5, [{"file": "a", "bytes": 1}]), rejected(3), entry(2)])
    for found in (ledger, Ledger(ledger.path)):
        assert [sample["index"] for sample, _ in found.records()] == [2, 5]
        assert all(text == compact(sample).encode() for sample, text in found.records())
        assert [index for index, _ in found.lines()] == [2, 3, 5]
        assert [row["index"] for row in found.rejections()] == [3]


def test_one_pass_asks_of_every_entry_whether_it_counts(tmp_path) -> None:
    """Each whole line is asked about once, and one that does not count is as if it were not there."""
    Ledger(tmp_path / "ledger.jsonl").append(map(entry, range(6)))
    asked: list[int] = []

    def known(line: dict[str, object]) -> bool:
        asked.append(index_of(line))
        return index_of(line) % 2 == 0

    ledger = Ledger(tmp_path / "ledger.jsonl", known)
    assert asked == [0, 1, 2, 3, 4, 5]
    assert [index in ledger for index in range(6)] == [True, False] * 3
    ledger.append([entry(1)])
    assert [index_of(line) for line, _ in read_ledger(ledger.path)] == [0, 1, 2, 3, 4, 5, 1]


def test_cut_line_is_dropped_when_the_next_is_added(tmp_path) -> None:
    """Reading changes nothing; the first addition takes the place of a line that was cut."""
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append([entry(0), entry(1)])
    whole = path.read_bytes()
    path.write_bytes(cut := whole[:-3])
    ledger = Ledger(path)
    assert (len(ledger), path.read_bytes()) == (1, cut)
    ledger.append([entry(1)])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("value", [VALUES, [[]], "µ", 1.7976931348623157e308, 123456789.123456789, 2**63, -(2**64)])
def test_json_is_parsed_as_python_does(value) -> None:
    """Numbers keep every bit, and text every character."""
    text = compact(value).encode()
    assert parse(text) == value == json.loads(text)
    assert compact(parse(text)).encode() == text


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"nul", b'"\xff"', b"{} x", b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(text) -> None:
    """Damage is told by one kind of error, and not even a hundred thousand brackets end the process."""
    with pytest.raises(ValueError, match=" at line "):
        parse(text)
