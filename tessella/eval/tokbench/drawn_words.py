"""Words and how they are drawn: made-up words at exact heights, in the fonts that matplotlib ships.

The height of characters is that of capitals: rows of an H that are covered by at least half. It is
measured on the drawn pixels, and the font's size is searched until it is met.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tessella.errors import ConfigError

Coverage = NDArray[np.uint8]

FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf")
# letters whose two cases, or whose digits, do not look alike: what is read has one right answer
_CONSONANTS, _VOWELS = "bdfghkmnprt", "aeu"
_HALF = 128
_FINEST = 64  # FreeType's sizes are 64ths of a pixel
_PROBE = 100


def make_word(rng: np.random.Generator) -> str:
    """Return a pronounceable word (small, with a capital, or in capitals) or a number."""
    kind = rng.integers(5)
    if kind == 0:
        return str(rng.integers(10, 10 ** int(rng.integers(3, 7))))
    syllables = int(rng.integers(2, 4))
    letters = [rng.choice(list(part)) for _ in range(syllables) for part in (_CONSONANTS, _VOWELS)]
    if rng.random() < 0.5:
        letters.append(rng.choice(list("kmnrt")))
    word = "".join(letters)
    return {1: word.capitalize(), 2: word.upper(), 3: word.upper()}.get(int(kind), word)


def font_files(fonts: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Return the font files to draw with; those that matplotlib ships by default.

    Raises:
        ConfigError: if one is missing.
    """
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin if spec and spec.origin else "").parent / "mpl-data" / "fonts" / "ttf"
    files = [Path(font).expanduser() for font in fonts] or [folder / name for name in FONTS]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"fonts {', '.join(missing)} are missing; give TrueType files as fonts")
    return tuple(files)


def font_of_height(file: Path, height: int) -> ImageFont.FreeTypeFont:
    """Return a font whose capitals are exactly ``height`` pixels high when drawn.

    Raises:
        ConfigError: if the file is no font, or no size gives that height.
    """
    share = capital_height(_font(file, _PROBE)) / _PROBE
    guess = height / max(share, 0.1)
    for step in range(int(0.9 * guess * _FINEST), int(1.2 * guess * _FINEST) + 1, 8):
        font = _font(file, step / _FINEST)
        found = capital_height(font)
        if found == height:
            return font
        if found > height:
            break
    raise ConfigError(f"no size of the font {file} has capitals of {height} pixels; take another")


def _font(file: Path, size: float) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise ConfigError(f"{file} is no font that can be drawn: {error}") from error


def capital_height(font: ImageFont.FreeTypeFont) -> int:
    """Return the rows of a drawn H that are at least half covered."""
    return int((draw_word("H", font).max(axis=1) >= _HALF).sum())


def draw_word(text: str, font: ImageFont.FreeTypeFont) -> Coverage:
    """Return how much of each pixel a word covers, 0 to 255, cut to its ink."""
    left, top, right, bottom = font.getbbox(text)
    size = math.ceil(right - left) + 4, math.ceil(bottom - top) + 4
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, font=font, fill=255)
    pixels = np.array(image)
    rows, columns = (np.flatnonzero(pixels.max(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ConfigError(f"the font draws nothing for {text!r}; expected one with Latin letters")
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


__all__ = [
    "FONTS",
    "Coverage",
    "capital_height",
    "draw_word",
    "font_files",
    "font_of_height",
    "make_word",
]
