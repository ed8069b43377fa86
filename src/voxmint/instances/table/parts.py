"""The files of a table, in their order, and their rows as batches of bounded size: nothing is ever loaded whole."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from voxmint.errors import InputError

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
"""File endings that are read; text may be gzipped (``.csv.gz``)."""
BLOCK_BYTES = 1 << 19
"""Text that is decoded at a time; also the longest line allowed."""
BATCH_ROWS = 1 << 13
"""Rows of a batch of a binary format."""
_NULLS = [*("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "#N/A")]


def find_parts(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files of a table in natural order of their names: ``part-2`` before ``part-10``.

    Parameters
    ----------
    source : path, glob, or sequence of paths
        A file, a folder (searched at any depth; hidden names and those that begin with ``_`` are left out), a pattern
        such as ``tables/*.csv.gz``, or files, which are sorted too.

    Raises
    ------
    InputError
        There is none, they are of different formats, or one is no regular file: a pipe or a device never ends.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    parts: dict[Path, None] = {}
    for item in given:
        parts.update(dict.fromkeys(_expand(item)))
    formats = {format_of(part) for part in parts}
    if not parts or len(formats) > 1:
        raise InputError(
            "tables of different formats in one place" if parts else "no table here",
            where=", ".join(map(str, given)),
            expected=f"files of one format: {', '.join(FORMATS)}, text also gzipped",
            got=", ".join(sorted(formats)) if parts else "no such file",
            remedy="give a file, a folder or a pattern such as 'tables/*.csv'",
        )
    for part in parts:
        _check_regular(part)
    return sorted(parts, key=lambda part: _natural(part.as_posix()))


def _check_regular(path: Path) -> None:
    """Refuse what would hang or never end, before it is opened."""
    with _told(path):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise InputError(
            "not a regular file",
            where=path,
            expected="a table in a file: it is read more than once",
            got=kinds.get(stat.S_IFMT(mode), "a device"),
            remedy="write the table to a file, and name that",
        )


def _expand(item: str | Path) -> list[Path]:
    path = Path(item)
    try:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if _suffix(p) in FORMATS and not p.is_dir())
            return [p for p in inside if not any(n.startswith((".", "_")) for n in p.relative_to(path).parts)]
        if os.path.lexists(path):
            return [path]
        return [p for p in _matching(str(item)) if not p.is_dir()]
    except (OSError, ValueError) as error:  # a loop of links, a name too long or with a zero byte, no permission
        raise InputError(f"cannot be looked for: {error}", where=repr(str(item)),
                         remedy="give a file, a folder or a pattern such as 'tables/*.csv'") from error  # fmt: skip


def _matching(pattern: str) -> Iterator[Path]:
    """Yield the paths that match; unlike `glob.glob`, ``**`` follows no links, which may lead in circles."""
    path = Path(pattern)
    root = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    shown = [part for part in parts if part.startswith(".")]
    for found in root.glob(str(Path(*parts))) if parts else ():
        hidden = [name for name in found.parts if name.startswith(".")]
        if all(any(fnmatch(name, part) for part in shown) for name in hidden):
            yield found


def _natural(text: str) -> list[tuple[bool, int, str]]:
    return [(not t.isdecimal(), int(t) if t.isdecimal() else 0, t) for t in re.split(r"(\d+)", text)]


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def format_of(path: Path) -> str:
    """Return the format that a file's ending names."""
    suffix = _suffix(path)
    if suffix not in FORMATS:
        raise InputError(
            "not a table by its name", where=path, expected=f"an ending of {', '.join(FORMATS)}", got=path.name
        )
    return FORMATS[suffix]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what Arrow says about a damaged file into an error that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"cannot be read as a table: {text[:300]}",
            where=path,
            expected=f"a whole {format_of(path)} file",
            remedy="the file may be cut or damaged: compare its size or checksum with the original",
        ) from error


def _text_stream(path: Path) -> Any:
    return pa.input_stream(str(path), compression="gzip" if path.name.lower().endswith(".gz") else None)


def _open_csv(path: Path, columns: list[str] | None) -> Any:
    return pa_csv.open_csv(
        _text_stream(path),
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=_delimiter(path)),
        # everything as text: types guessed from the first block would fail on, or change with, a later one
        convert_options=pa_csv.ConvertOptions(
            include_columns=columns,
            column_types=None if columns is None else dict.fromkeys(columns, pa.string()),
            strings_can_be_null=True,
            null_values=_NULLS,
        ),
        memory_pool=pa.system_memory_pool(),
    )


def _delimiter(path: Path) -> str:
    """Return what separates the columns: of comma, semicolon and tab the one most frequent in the first line."""
    if _suffix(path) == ".tsv":
        return "\t"
    with _text_stream(path) as stream:
        line = stream.read(BLOCK_BYTES).splitlines()[:1]
    bare = re.sub(rb'"[^"]*"', b"", line[0] if line else b"")
    return max(",;\t", key=lambda sign: bare.count(sign.encode()))


def _open_json(path: Path) -> Any:
    return pa_json.open_json(
        _text_stream(path),
        read_options=pa_json.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        memory_pool=pa.system_memory_pool(),
    )


def _open_arrow(path: Path, fields: list[int] | None) -> Any:
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    stream = pa.OSFile(str(path))  # not a memory map: its pages would count as memory in use
    try:
        return pa.ipc.open_file(stream, options=options)
    except pa.ArrowInvalid:
        stream.seek(0)
        return pa.ipc.open_stream(stream, options=options)


def column_names(path: Path) -> list[str]:
    """Return a part's columns, nested fields as ``outer.inner``.

    Raises
    ------
    InputError
        The file is empty, cut, damaged, or names a column twice.
    """
    kind = format_of(path)
    with _told(path):
        if kind == "csv":
            with _open_csv(path, None) as reader:
                schema = reader.schema
        elif kind == "parquet":
            schema = pq.read_schema(path)
        elif kind == "arrow":
            schema = _open_arrow(path, None).schema
        else:
            with _open_json(path) as reader:
                schema = reader.schema
    names = [name for field in schema for name in _nested(field, "")]
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise InputError(f"more than one column is called {', '.join(twice)}", where=path, expected="unique names")
    return names


def _nested(field: Any, prefix: str) -> Iterator[str]:
    name = prefix + str(field.name)
    yield name
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _nested(inner, f"{name}.")


def read_batches(path: Path, columns: list[str]) -> Iterator[Any]:
    """Yield a part's rows in order as Arrow record batches that hold at least ``columns``.

    Text formats give text (CSV) or what the first block shows (JSON lines).

    Raises
    ------
    InputError
        The file is cut or damaged.
    """
    kind = format_of(path)
    with _told(path):
        if kind == "csv":
            with _open_csv(path, columns) as reader:
                yield from reader
        elif kind == "parquet":
            with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
                missing = file.metadata.num_rows
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                    missing -= batch.num_rows
                    yield batch
                if missing:
                    raise pa.ArrowInvalid(f"{missing:,} of the rows that it claims to have are not there")
        elif kind == "arrow":
            yield from _arrow_batches(path, columns)
        else:
            with _open_json(path) as reader:
                yield from reader


def _arrow_batches(path: Path, columns: list[str]) -> Iterator[Any]:
    names = _open_arrow(path, None).schema.names
    wanted = {name if name in names else name.split(".")[0] for name in columns}
    reader = _open_arrow(path, [i for i, name in enumerate(names) if name in wanted])
    whole = (
        (reader.get_batch(i) for i in range(reader.num_record_batches))
        if hasattr(reader, "num_record_batches")
        else iter(reader)
    )
    for batch in whole:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def release_unused() -> None:
    """Give memory that was freed back to the system, before much more is needed."""
    for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
        pool.release_unused()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # arrays lie in holes of the heap, which the C library keeps for itself


def column_of(batch: Any, name: str) -> Any:
    """Return a batch's column, or the nested field ``outer.inner``, as one Arrow array."""
    if name in batch.schema.names:
        column = batch.column(name)
    else:
        outer, *inner = name.split(".")
        column = pc.struct_field(batch.column(outer), inner)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
