"""A contact sheet of the templates of a bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.inspect import canvas as look
from voxmint.inspect.relief import relief

if TYPE_CHECKING:
    from PIL import Image

_MARGIN, _GAP, _CAPTION, _PADDING = 24, 10, 40, 8


class Templates(Protocol):
    """What the picture needs of a bank of templates."""

    def __len__(self) -> int:
        """Return the number of templates."""
        ...

    def mask(self, index: int, /) -> NDArray[np.bool_]:
        """Return one shape, bool (i, j, k)."""
        ...

    def name(self, index: int, /) -> str:
        """Return the name of one template."""
        ...

    def shape(self, index: int, /) -> tuple[int, ...]:
        """Return the three sides of one template, voxels."""
        ...


def bank_picture(
    bank: Templates,
    *,
    count: int = 48,
    indices: Sequence[int] | None = None,
    columns: int | None = None,
    size: int = 128,
    title: str | None = None,
) -> Image.Image:
    """Draw templates of a bank as lit surfaces, each fitted into its tile, with name and size in voxels.

    Parameters
    ----------
    bank : TemplateBank
        The templates.
    count : int
        Most templates to draw; of a larger bank, as many at even distances.
    indices : sequence of int, optional
        Draw these instead.
    columns : int, optional
        Tiles side by side; by default so many that the picture is somewhat wider than high.
    size : int
        Side of a rendering, pixels.
    title : str, optional
        Written above; by default the number of templates.

    Returns
    -------
    PIL.Image.Image
        RGB picture. Each shape is seen along j from its far end, i to the right and k upwards.

    Raises
    ------
    InputError
        The bank is empty, or no template was asked for.
    """
    chosen = _spread(len(bank), count) if indices is None else list(indices)
    if not chosen:
        raise InputError("no template to draw", expected="at least one", got=f"a bank of {len(bank)}, count {count}")
    if title is None:
        title = f"{len(chosen)} of {len(bank)} templates" if len(chosen) < len(bank) else f"{len(bank)} templates"
    tile_width, tile_height = size + 2 * _PADDING, size + _PADDING + _CAPTION
    columns = min(columns or _even_columns(len(chosen), 1.4 * tile_height / tile_width), len(chosen))
    rows = -(-len(chosen) // columns)
    top = _MARGIN + look.TITLE_SIZE + 14
    width = 2 * _MARGIN + columns * (tile_width + _GAP) - _GAP
    canvas, pen = look.new_canvas(width, top + rows * (tile_height + _GAP) - _GAP + _MARGIN)
    title = look.fit_text(pen, title, width - 2 * _MARGIN, look.TITLE_SIZE)
    look.write_text(pen, (_MARGIN, _MARGIN - 4), title, size=look.TITLE_SIZE)
    for number, index in enumerate(chosen):
        row, column = divmod(number, columns)
        left, upper = _MARGIN + column * (tile_width + _GAP), top + row * (tile_height + _GAP)
        box = (left, upper, left + tile_width - 1, upper + tile_height - 1)
        pen.rounded_rectangle(box, radius=6, fill=look.PANEL)
        picture = relief(bank.mask(index), size, _tint(index), look.PANEL)
        look.paste(canvas, picture, (left + _PADDING, upper + _PADDING))
        x, y = left + _PADDING, upper + _PADDING + size + 1
        look.write_text(pen, (x, y), look.fit_text(pen, bank.name(index), size))
        sides = " x ".join(str(side) for side in bank.shape(index))
        look.write_text(pen, (x, y + 14), look.fit_text(pen, sides, size, look.CAPTION_SIZE - 1), look.MUTED, 12)
    return canvas


def _spread(total: int, count: int) -> list[int]:
    """Return at most ``count`` of ``total`` indices at even distances, the first and the last among them."""
    if total <= count:
        return list(range(total))
    if count < 2:
        return [0][:count]
    return [round(number * (total - 1) / (count - 1)) for number in range(count)]


def _even_columns(count: int, ratio: float) -> int:
    """Return how many columns make ``count`` tiles fill a picture ``ratio`` times as wide as high, in tiles, best."""
    wanted = max(1, round((count * ratio) ** 0.5))
    return min(range(max(1, wanted - 1), wanted + 2), key=lambda columns: (-count % columns, abs(columns - wanted)))


def _tint(index: int) -> look.Colour:
    """Return the light colour of a template's surface, stable by its index."""
    colour: NDArray[Any] = look.label_colours()[1 + index % 255].astype(int)
    red, green, blue = ((2 * colour + 3 * 236) // 5).tolist()
    return red, green, blue
