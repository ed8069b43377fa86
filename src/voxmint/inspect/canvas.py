"""The look that all pictures share: colours, text, and pixels enlarged without blur."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
RGB = NDArray[np.uint8]

BACKGROUND: Colour = (18, 19, 23)
"""Behind everything."""
PANEL: Colour = (30, 32, 38)
"""Behind one tile; light enough that the black of a label volume shows its edge."""
TEXT: Colour = (226, 228, 233)
MUTED: Colour = (139, 145, 157)

TITLE_SIZE, CAPTION_SIZE = 20, 13
"""Font sizes in pixels."""


@lru_cache(maxsize=1)
def label_colours() -> RGB:
    """Return one colour per label, shape (256, 3): black for 0, then each as far from all earlier ones as can be.

    The colours are picked greedily, farthest point first, among those of medium lightness and chroma in Oklab [1]_, so
    that neighbouring labels differ clearly and none is lost on the dark background. They never change from picture to
    picture.

    References
    ----------
    .. [1] B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    levels = np.linspace(0, 255, 18).round()
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb / 255)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    pleasant = (lab[:, 0] > 0.45) & (lab[:, 0] < 0.93) & (chroma > 0.05) & (chroma < 0.175)
    rgb, lab = rgb[pleasant], lab[pleasant]
    first = np.argmin(np.square(lab - (0.7, -0.05, -0.1)).sum(axis=1))  # a calm blue
    chosen, distance = [first], np.square(lab - lab[first]).sum(axis=1)
    while len(chosen) < 255:
        chosen.append(np.argmax(distance))
        distance = np.minimum(distance, np.square(lab - lab[chosen[-1]]).sum(axis=1))
    colours = np.zeros((256, 3), np.uint8)
    colours[1:] = rgb[chosen]
    colours.setflags(write=False)
    return colours


def colour_labels(labels: NDArray[Any]) -> RGB:
    """Return the picture (rows, columns, 3) of a label slice (rows, columns); labels above 255 reuse the colours."""
    wrapped = np.where(labels > 255, (labels.astype(np.int64) - 1) % 255 + 1, labels)
    picture: RGB = label_colours()[wrapped]
    return picture


def colour_grey(image: NDArray[np.uint8]) -> RGB:
    """Return the grey picture (rows, columns, 3) of an image slice (rows, columns)."""
    return np.repeat(image[..., None], 3, axis=-1)


def enlarge(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat every pixel ``factor`` times along rows and columns, so that voxels stay crisp squares."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow ships; its letters cover plain Latin, so captions use no typographic signs."""
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def new_canvas(width: int, height: int, colour: Colour = BACKGROUND) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Return an empty picture and the pen that draws on it."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (width, height), colour)
    return canvas, ImageDraw.Draw(canvas)


def paste(canvas: Image.Image, picture: RGB, position: tuple[int, int]) -> None:
    """Put a picture (rows, columns, 3) on the canvas, its top left corner at ``position`` (x, y)."""
    from PIL import Image

    canvas.paste(Image.fromarray(np.ascontiguousarray(picture)), position)


def fit_text(pen: ImageDraw.ImageDraw, text: str, width: int, size: int = CAPTION_SIZE) -> str:
    """Return ``text``, its middle replaced by dots where it is wider than ``width`` pixels."""
    if pen.textlength(text, font=font(size)) <= width:
        return text
    fits, too_long = 0, len(text)
    shortened = ""
    while too_long - fits > 1:
        kept = (fits + too_long) // 2
        candidate = f"{text[: (kept + 1) // 2].rstrip()}...{text[len(text) - kept // 2 :].lstrip()}"
        if pen.textlength(candidate, font=font(size)) <= width:
            fits, shortened = kept, candidate
        else:
            too_long = kept
    return shortened


def write_text(
    pen: ImageDraw.ImageDraw, position: tuple[int, int], text: str, colour: Colour = TEXT, size: int = CAPTION_SIZE
) -> None:
    """Write one line, the top left corner of its box at ``position`` (x, y)."""
    pen.text(position, text, fill=colour, font=font(size))


def write_parts(
    pen: ImageDraw.ImageDraw, position: tuple[int, int], parts: tuple[str, str], width: int, size: int = CAPTION_SIZE
) -> None:
    """Write a bright name and a muted remark behind it on one line of at most ``width`` pixels."""
    name = fit_text(pen, parts[0], width, size)
    write_text(pen, position, name, size=size)
    used = round(pen.textlength(name, font=font(size))) + size if name else 0
    write_text(pen, (position[0] + used, position[1]), fit_text(pen, parts[1], width - used, size), MUTED, size)


def _oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert sRGB in [0, 1], shape (n, 3), to Oklab."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return lab
