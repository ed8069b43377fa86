"""Pictures of samples around instances: a gallery of many, one slice by slice, and the rows that were rejected.

The image is grey. The instance is outlined just outside its voxels, its seed just inside, in another colour, so that
both are seen where they coincide. Padded voxels are tinted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.inspect import canvas as look
from voxmint.inspect.slices import outline, shrink_image
from voxmint.sample import Sample

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

TARGET: look.Colour = (255, 176, 0)
"""Colour of the instance's outline."""
SEED: look.Colour = (64, 224, 255)
"""Colour of the seed's outline."""
POINT: look.Colour = (255, 84, 112)
"""Colour of the mark at a row's centre."""
_PADDED = np.array([34, 24, 62])
_SMALLEST, _LARGEST = 150, 256
_SMALL, _LINE, _MOST_LINES = look.CAPTION_SIZE - 1, 17, 4
_MARGIN, _GAP, _PADDING, _BETWEEN = 24, 14, 12, 4
_AXES = "zyx"


@dataclass(frozen=True)
class _Tile:
    """Pictures side by side under two lines of text."""

    pictures: tuple[look.RGB, ...]
    text: tuple[str, str]
    remark: str = ""


def instance_gallery(
    samples: Sequence[Sample], *, axis: str = "z", columns: int | None = None, title: str = ""
) -> Image.Image:
    """Draw many samples: of each a central slice of the instance that is no seed, and the fullest slice of its seed.

    Parameters
    ----------
    samples : sequence of Sample
        Each with uint8 (z, y, x) ``source``, ``seed``, ``target`` and, optionally, ``valid``. Shapes may differ.
    axis : {"z", "y", "x"}
        Axis along which slices are counted.
    columns : int, optional
        Samples side by side; by default so many that the picture is about as wide as high.
    title : str
        Written above.

    Returns
    -------
    PIL.Image.Image
        RGB picture.

    Raises
    ------
    InputError
        There is no sample, or one lacks an array.
    """
    tiles = []
    for sample in samples:
        source, seed, target = (_planes(sample, name, axis) for name in ("source", "seed", "target"))
        shown = (_middle(target, but=seed), _fullest(seed))
        kept = np.flatnonzero(seed.any(axis=(1, 2))).tolist()
        pictures = tuple(_slice(sample, axis, number) for number in shown)
        numbers = ", ".join(map(str, kept))
        tiles.append(_Tile(pictures, (sample.key, _about(sample)),
                           f"slices {shown[0]} and {shown[1]} of {len(source)}, seed on {numbers}"))  # fmt: skip
    return _draw(tiles, columns, title, legend=True)


def instance_slices(sample: Sample, *, axis: str = "z", columns: int | None = None, title: str = "") -> Image.Image:
    """Draw one sample slice by slice. Parameters and errors are those of `instance_gallery`."""
    seed, target = (_planes(sample, name, axis) for name in ("seed", "target"))
    tiles = []
    for number in range(len(seed)):
        remark = "seed" if seed[number].any() else "instance" if target[number].any() else ""
        tiles.append(_Tile((_slice(sample, axis, number),), (f"{axis} {number}", remark)))
    return _draw(tiles, columns, title or f"{sample.key}  {_about(sample)}", legend=True)


def rejected_gallery(
    rejected: Sequence[tuple[Sample, str]], *, axis: str = "z", columns: int | None = None, title: str = ""
) -> Image.Image:
    """Draw what lies around rows that offered no sample, with the reasons.

    Parameters
    ----------
    rejected : sequence of (Sample, str)
        What is there, whose ``target`` is all that is not background (`InstanceSampler.look`), and the reason. The
        row's centre is taken from the record's ``instance`` and ``box_nm``; else it is the middle.
    axis, columns, title
        As for `instance_gallery`.
    """
    tiles = []
    for sample, reason in rejected:
        shape = _planes(sample, "source", "z").shape
        centre = _centre(sample, shape)
        number = centre[_AXES.index(axis)]
        row, column = (centre[n] for n in range(3) if n != _AXES.index(axis))
        picture = _slice(sample, axis, number, mark=(row, column))
        tiles.append(_Tile((picture,), (sample.key, f"{axis} {number}"), reason))
    return _draw(tiles, columns, title, wide=_LARGEST)


def _planes(sample: Sample, name: str, axis: str) -> NDArray[np.uint8]:
    """Return an array with the slice axis first."""
    array = sample.arrays.get(name)
    if array is None or array.ndim != 3:
        raise InputError("cannot draw the sample", where=sample.key, expected=f"{name} (z, y, x)",
                         got={key: value.shape for key, value in sample.arrays.items()})  # fmt: skip
    return np.moveaxis(array, _AXES.index(axis), 0)


def _slice(sample: Sample, axis: str, number: int, mark: tuple[int, int] | None = None) -> look.RGB:
    """Return one slice, sized for looking at, with outlines."""
    image = _planes(sample, "source", axis)[number]
    longest = max(sample.arrays["source"].shape)
    divisor, factor = -(-longest // _LARGEST), max(1, round(_SMALLEST / longest))
    picture = look.colour_grey(look.enlarge(shrink_image(image, divisor), factor))
    if "valid" in sample.arrays:
        padded = look.enlarge(_shrink_mask(_planes(sample, "valid", axis)[number] == 0, divisor), factor)
        picture[padded] = (picture[padded].astype(int) + 2 * _PADDED) // 3
    for name, colour in (("target", TARGET), ("seed", SEED)):
        mask = look.enlarge(_shrink_mask(_planes(sample, name, axis)[number] != 0, divisor), factor)
        picture[outline(~mask) if name == "target" else outline(mask)] = colour
    if mark is not None:
        _cross(picture, *((n // divisor) * factor + factor // 2 for n in mark))
    return picture


def _shrink_mask(mask: NDArray[np.bool_], divisor: int) -> NDArray[np.bool_]:
    """Return which blocks hold any voxel of a mask: what is one voxel thin stays visible."""
    for axis, length in enumerate(mask.shape):
        mask = np.logical_or.reduceat(mask, np.arange(0, length, divisor), axis=axis)
    return mask


def _cross(picture: look.RGB, row: int, column: int) -> None:
    """Mark a place, leaving itself to be seen."""
    for step in (*range(-9, -3), *range(4, 10)):
        for r, c in ((row + step, column), (row, column + step)):
            if 0 <= r < picture.shape[0] and 0 <= c < picture.shape[1]:
                picture[r, c] = POINT


def _middle(planes: NDArray[Any], but: NDArray[Any]) -> int:
    """Return the middlemost slice that holds anything, of those without a seed if there are such; else the middle."""
    there = planes.any(axis=(1, 2))
    bare = there & ~but.any(axis=(1, 2))
    numbers, choice = np.flatnonzero(there), np.flatnonzero(bare if bare.any() else there)
    return int(choice[np.argmin(np.abs(choice - numbers.mean()))]) if len(choice) else len(planes) // 2


def _fullest(planes: NDArray[Any]) -> int:
    """Return the slice with the largest mask, the middle one when there is none."""
    counts = np.count_nonzero(planes, axis=(1, 2))
    return int(np.argmax(counts)) if counts.any() else len(planes) // 2


def _centre(sample: Sample, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxel (z, y, x) of the row's centre."""
    try:
        centre = sample.record["instance"]["centre_nm"]
        start, size = sample.record["box_nm"][0], sample.record["voxel_size_nm"]
        voxel = [int((c - s) // v) for c, s, v in zip(centre, start, size, strict=True)][::-1]
    except (KeyError, TypeError):
        voxel = [n // 2 for n in shape]
    return tuple(min(max(v, 0), n - 1) for v, n in zip(voxel, shape, strict=True))


def _about(sample: Sample) -> str:
    sides = " x ".join(map(str, sample.arrays["target"].shape))
    return f"{sides}  ·  {np.count_nonzero(sample.arrays['target']):,} voxels"


def _draw(
    tiles: Sequence[_Tile], columns: int | None, title: str, *, legend: bool = False, wide: int = 0
) -> Image.Image:
    """Lay out tiles of one size in rows."""
    if not tiles:
        raise InputError("no sample to draw", remedy="make at least one sample first")
    inner = max(wide, *(sum(p.shape[1] for p in t.pictures) + _BETWEEN * (len(t.pictures) - 1) for t in tiles))
    tall = max(p.shape[0] for tile in tiles for p in tile.pictures)
    texts = [_wrapped(tile.remark, inner) for tile in tiles]
    head = 20 + _LINE * max(map(len, texts))
    width, height = inner + 2 * _PADDING, head + tall + 2 * _PADDING
    columns = min(len(tiles), columns or max(1, round((len(tiles) * height / width) ** 0.5)))
    rows, top = -(-len(tiles) // columns), _MARGIN + (look.TITLE_SIZE + _GAP if title or legend else 0)
    full = max(2 * _MARGIN + columns * (width + _GAP) - _GAP, 2 * _MARGIN + 260)
    canvas, pen = look.new_canvas(full, top + rows * (height + _GAP) - _GAP + _MARGIN)
    _heading(pen, title, full, legend=legend)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, upper = _MARGIN + column * (width + _GAP), top + row * (height + _GAP)
        pen.rounded_rectangle((left, upper, left + width - 1, upper + height - 1), radius=6, fill=look.PANEL)
        look.write_parts(pen, (left + _PADDING, upper + 7), tile.text, inner)
        for line, text in enumerate(texts[number]):
            look.write_text(pen, (left + _PADDING, upper + 25 + _LINE * line), text, look.MUTED, _SMALL)
        x = left + _PADDING
        for picture in tile.pictures:
            look.paste(canvas, picture, (x, upper + head + _PADDING))
            x += picture.shape[1] + _BETWEEN
    return canvas


def _wrapped(text: str, width: int) -> list[str]:
    """Return text as at most `_MOST_LINES` lines that fit a width, the rest of it shortened."""
    _, pen = look.new_canvas(1, 1)
    lines: list[str] = []
    words = text.split()
    while words:
        count = len(words)
        while count > 1 and pen.textlength(" ".join(words[:count]), font=look.font(_SMALL)) > width:
            count -= 1
        if len(lines) == _MOST_LINES - 1:
            count = len(words)
        lines.append(look.fit_text(pen, " ".join(words[:count]), width, _SMALL))
        words = words[count:]
    return lines


def _heading(pen: ImageDraw.ImageDraw, title: str, width: int, *, legend: bool) -> None:
    """Write the title, and at the right what the colours mean."""
    right = width - _MARGIN
    for word, colour in (("seed", SEED), ("instance", TARGET)) if legend else ():
        right -= round(pen.textlength(word, font=look.font(look.CAPTION_SIZE)))
        look.write_text(pen, (right, _MARGIN), word, colour)
        right -= 14
    shown = look.fit_text(pen, title, right - _MARGIN, look.TITLE_SIZE) if title else ""
    look.write_text(pen, (_MARGIN, _MARGIN - 4), shown, size=look.TITLE_SIZE)
