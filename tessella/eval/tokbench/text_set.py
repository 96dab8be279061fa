"""A set of texts of one's own: words of stated heights on photographs, with exact transcriptions.

Published sets need a download and hold few small words. Here words are drawn on photographs, each
on a plate of the colour around it, much darker or lighter than the letters, so that the originals
are legible and what is lost in a reconstruction is lost by the tokenizer.

::

    folder/annotations.jsonl                        corners, and heights of capitals in pixels
    folder/annotations/text_drawn.json              the same in TokBench's format (2505.18142)
    folder/images/text_data/drawn/0000.png, ...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError
from tessella.eval.tokbench.drawn_words import (
    Coverage,
    draw_word,
    font_files,
    font_of_height,
    make_word,
)
from tessella.eval.tokbench.text_annotations import LINES, TextPicture, read_text_set
from tessella.images import Pixels, save_image
from tessella.tokenizers.checkpoints.files import new_folder

HEIGHTS = (8, 10, 12, 16, 20, 24, 32, 48)
NAME = "drawn"
_IMAGES = f"images/text_data/{NAME}"
_ATTEMPTS = 100  # places tried for a word in a picture
_DARK, _LIGHT = 40.0, 225.0  # brightness of letters and plates
_MARGIN = 0.4  # of a plate around its word, in heights


@dataclass(frozen=True, slots=True)
class _Drawn:
    text: str
    height: int
    box: tuple[int, int, int, int]


def make_text_set(
    folder: Path | str,
    pictures: Path | str | Sequence[str],
    *,
    heights: Sequence[int] = HEIGHTS,
    count: int = 40,
    seed: int = 0,
    longest: int = 1024,
    fonts: Sequence[str | Path] = (),
) -> tuple[TextPicture, ...]:
    """Draw words on photographs and write the set; the same arguments give the same files.

    Args:
        folder: where to write; it must not exist.
        pictures: photographs: folders, glob patterns or files.
        heights: of capitals in pixels, each 5 or more.
        count: words of each height.
        seed: of words, fonts, colours and places.
        longest: larger photographs are reduced until their longer side has so many pixels.
        fonts: TrueType files; those that matplotlib ships by default.

    Returns:
        The set, as :func:`read_text_set` reads it.

    Raises:
        ConfigError: if the folder exists, an argument is impossible, or the words do not fit.
        PictureError: if a photograph is damaged.
    """
    folder = Path(folder).expanduser()
    if folder.exists():
        raise ConfigError(f"{folder} exists; expected the name of a new folder for the text set")
    if not heights or min(heights) < 5 or count < 1 or longest < 64:
        raise ConfigError(
            f"heights {list(heights)}, count={count} and longest={longest} given; expected heights "
            "of 5 and more, a count of 1 and more, and longest of 64 and more"
        )
    sources = [str(pictures)] if isinstance(pictures, (str, Path)) else list(map(str, pictures))
    photographs = PictureSet(sources)
    canvases = [_Canvas(photographs[i], longest) for i in range(min(len(photographs), count * 8))]
    rng = np.random.default_rng(seed)
    files = font_files(fonts)
    ladder = {h: [font_of_height(file, h) for file in files] for h in set(heights)}
    for number in range(count):
        for k, height in enumerate(sorted(heights, reverse=True)):
            text = make_word(rng)
            ink = draw_word(text, ladder[height][rng.integers(len(files))])
            first = (number * len(heights) + k) % len(canvases)
            _place(canvases[first:] + canvases[:first], text, height, ink, rng)
    with new_folder(folder) as made:
        _write(made, [canvas for canvas in canvases if canvas.words])
    return read_text_set(folder)


class _Canvas:
    """A photograph and the words drawn on it so far."""

    def __init__(self, photograph: Pixels, longest: int) -> None:
        image = Image.fromarray(photograph)
        if max(image.size) > longest:
            image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        self.pixels: Pixels = np.array(image)
        self.words: list[_Drawn] = []
        self._taken = np.zeros(self.pixels.shape[:2], dtype=bool)

    def draw(self, text: str, height: int, ink: Coverage, rng: np.random.Generator) -> bool:
        """Draw a word where there is room; False if no place was found."""
        margin = max(round(_MARGIN * height), 2)
        tall, wide = ink.shape[0] + 2 * margin, ink.shape[1] + 2 * margin
        rows, columns = self.pixels.shape[:2]
        if tall > rows or wide > columns:
            return False
        for _ in range(_ATTEMPTS):
            y, x = int(rng.integers(rows - tall + 1)), int(rng.integers(columns - wide + 1))
            plate = (slice(y, y + tall), slice(x, x + wide))
            if self._taken[plate].any():
                continue
            self._taken[plate] = True
            self.pixels[plate] = _painted(self.pixels[plate], ink, margin, rng)
            box = (x + margin, y + margin, x + wide - margin, y + tall - margin)
            self.words.append(_Drawn(text, height, box))
            return True
        return False


def _place(
    canvases: Sequence[_Canvas], text: str, height: int, ink: Coverage, rng: np.random.Generator
) -> None:
    """Draw a word on the first picture that has room."""
    if not any(canvas.draw(text, height, ink, rng) for canvas in canvases):
        raise ConfigError(
            f"a word of {height} pixels found no room in {len(canvases)} pictures; give more or "
            "larger pictures, fewer words or smaller heights"
        )


def _painted(patch: Pixels, ink: Coverage, margin: int, rng: np.random.Generator) -> Pixels:
    """Return a patch as a plate of its own colour with a word on it."""
    colour = patch.reshape(-1, 3).mean(axis=0)
    is_dark = bool(rng.random() < 0.5)
    plate, letters = (_DARK, _LIGHT) if is_dark else (_LIGHT, _DARK)
    ground = colour + (plate - colour.mean())  # the hue stays, the brightness is set
    texture = (patch - colour) * 0.15
    cover = np.pad(ink, margin)[..., None] / 255
    result = (ground + texture) * (1 - cover) + letters * cover
    painted: Pixels = np.rint(result.clip(0, 255)).astype(np.uint8)
    return painted


def _write(folder: Path, canvases: Sequence[_Canvas]) -> None:
    (folder / _IMAGES).mkdir(parents=True)
    (folder / "annotations").mkdir()
    lines, entries = [], []
    for i, canvas in enumerate(canvases):
        name = f"{i:04d}.png"
        save_image(folder / _IMAGES / name, canvas.pixels)
        height, width = canvas.pixels.shape[:2]
        size = {"width": width, "height": height}
        words = [_as_quad(word) for word in canvas.words]
        lines.append(json.dumps({"file": f"{_IMAGES}/{name}", **size, "words": words}))
        marks = [_as_tokbench(word, max(width, height)) for word in canvas.words]
        entries.append({"file_name": name, **size, "annotations": marks})
    (folder / LINES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "annotations" / f"text_{NAME}.json").write_text(
        json.dumps(entries, indent=1), encoding="utf-8"
    )


def _as_quad(word: _Drawn) -> dict[str, Any]:
    x0, y0, x1, y1 = word.box
    corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    return {"poly": corners, "text": word.text, "legible": True, "height": word.height}


def _as_tokbench(word: _Drawn, longest: int) -> dict[str, Any]:
    x0, y0, x1, y1 = word.box
    ratio = max(x1 - x0, y1 - y0) / len(word.text) / longest
    return {"rec": word.text, "bbox": list(word.box), "ratio": ratio, "height": word.height}


__all__ = ["HEIGHTS", "NAME", "make_text_set"]
