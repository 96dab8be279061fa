"""Pictures and the words in them: TokBench's annotations (arXiv 2505.18142) and quadrangles.

Two formats are told apart by their content::

    [{"file_name", "height", "width", "annotations": [{"rec", "bbox": [x0, y0, x1, y1], "ratio"}]}]
    {"file", "width", "height", "words": [{"poly": [[x, y] * 4], "text", "legible"}]}    (a line)

The first is TokBench's list, one file a set; the second has a picture a line, corners clockwise
from the top left of the text. Words without text or marked illegible are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessella.errors import ConfigError, PictureError
from tessella.eval.tokbench.annotation_files import (
    MAX_SIDE,
    Record,
    as_record,
    is_number,
    list_of,
    located,
    numbers,
    parse_json,
    read_annotation,
    shown,
    side_of,
    text_of,
)
from tessella.images import Pixels, decode_rgb

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]

LINES = "annotations.jsonl"
MAX_WORDS = 2**20
_MAX_PICTURES = 2**20
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or a line of text, in a picture.

    Args:
        text: what is written.
        box: ``(x0, y0, x1, y1)`` around it in pixels, along the axes.
        ratio: length of a character over the longer side of the picture: TokBench's scale.
        height: of the characters in pixels.
        quad: the corners, clockwise from the top left of the text; None where only the box is
            known.
    """

    text: str
    box: Box
    ratio: float
    height: float
    quad: Quad | None = None


@dataclass(frozen=True, slots=True)
class TextPicture:
    """A picture and its words.

    Args:
        file: its name in the annotation, unique in the set.
        path: where it lies.
        width: in pixels.
        height: in pixels.
        words: that can be read.
        dropped: number of words left out because nothing of their box lies inside the picture.
    """

    file: str
    path: Path
    width: int
    height: int
    words: tuple[Word, ...]
    dropped: int = 0

    def load(self) -> Pixels:
        """Decode the picture to uint8 RGB ``(height, width, 3)``.

        Raises:
            PictureError: if it is damaged or has another size than the annotation says.
        """
        pixels = decode_rgb(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            raise PictureError(
                f"{self.path} has {pixels.shape[1]}x{pixels.shape[0]} pixels; its annotation says "
                f"{self.width}x{self.height}"
            )
        return pixels


def read_text_set(
    source: Path | str, *, sets: Sequence[str] = (), images: Path | str | None = None
) -> tuple[TextPicture, ...]:
    """Read the pictures and words of a set.

    Args:
        source: an annotation file of either format, or a folder: with ``annotations.jsonl``, or in
            TokBench's layout (``annotations/text_<set>.json``, ``images/text_data/<set>/``).
        sets: which of TokBench's sets of a folder, such as ``ic15``; all when empty.
        images: folder that the names of pictures start from; by default where the layout has it,
            or beside the annotation.

    Returns:
        Pictures with at least one word, in the order of the files.

    Raises:
        ConfigError: if an annotation is missing, damaged, too large or leads out of its folder.
        PictureError: if pictures are missing; names them.
    """
    root = None if images is None else Path(images).expanduser()
    pictures: list[TextPicture] = []
    for file in _annotation_files(Path(source).expanduser(), sets):
        pictures += _read_file(file, root, MAX_WORDS - sum(len(p.words) for p in pictures))
    return tuple(pictures)


def _annotation_files(source: Path, sets: Sequence[str]) -> list[Path]:
    if not source.is_dir():
        return [source]
    if not sets and (source / LINES).is_file():
        return [source / LINES]
    files = sorted((source / "annotations").glob("text_*.json"))
    if sets:
        there = {file.stem.removeprefix("text_"): file for file in files}
        unknown = [name for name in sets if name not in there]
        if unknown:
            raise ConfigError(
                f"sets {', '.join(map(shown, unknown))} given; {source} has "
                f"{', '.join(there) or 'none'}"
            )
        files = [there[name] for name in dict.fromkeys(sets)]
    if not files:
        raise ConfigError(
            f"{source} holds no annotations of words; expected {LINES} or annotations/text_*.json"
        )
    return files


def _read_file(file: Path, images: Path | None, room: int) -> list[TextPicture]:
    text = read_annotation(file)
    is_list = text.lstrip()[:1] == "["
    entries = list(_tokbench(text, file, room) if is_list else _lines(text, file, room))
    entries = [entry for entry in entries if entry[1].words]
    if not entries:
        raise ConfigError(f"{file} has no legible words; expected at least one picture with some")
    folders = [images] if images is not None else _places(file, is_list)
    seen: set[str] = set()
    for place, picture in entries:
        if picture.file in seen:
            raise ConfigError(f"{place}: picture {shown(picture.file)} is there twice")
        seen.add(picture.file)
    paths = located(file, ((place, picture.file) for place, picture in entries), folders)
    prefix = f"{file.stem.removeprefix('text_')}/" if is_list else ""
    return [
        TextPicture(prefix + p.file, paths[p.file], p.width, p.height, p.words, p.dropped)
        for _, p in entries
    ]


def _places(file: Path, is_list: bool) -> list[Path]:
    if not is_list:
        return [file.parent]
    name = file.stem.removeprefix("text_")
    data = file.parent.parent / "images" / "text_data"
    return [data / name, data, file.parent / name, file.parent]


def _tokbench(text: str, file: Path, room: int) -> Iterator[tuple[str, TextPicture]]:
    entries = parse_json(text, str(file))
    if len(entries) > _MAX_PICTURES:
        raise ConfigError(f"{file}: {len(entries)} pictures; the limit is {_MAX_PICTURES}")
    for i, value in enumerate(entries):
        place = f"{file}, entry {i}"
        entry = as_record(value, place)
        size = side_of(entry, "width", place), side_of(entry, "height", place)
        records = list_of(entry, "annotations", place, longest=room)
        room -= len(records)
        words = []
        for k, record in enumerate(records):
            where = f"{place}, word {k}"
            word = as_record(record, where)
            label = text_of(word, "rec", where, longest=_MAX_TEXT)
            box = numbers(word.get("bbox"), 4, "bbox", where)
            if label:
                words.append(
                    _word(word, label, (box[0], box[1], box[2], box[3]), None, size, where)
                )
        yield place, _picture(text_of(entry, "file_name", place), size, words)


def _lines(text: str, file: Path, room: int) -> Iterator[tuple[str, TextPicture]]:
    for i, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{file}, line {i}"
        entry = as_record(parse_json(line, place), place)
        size = side_of(entry, "width", place), side_of(entry, "height", place)
        records = list_of(entry, "words", place, longest=room)
        room -= len(records)
        words = []
        for k, record in enumerate(records):
            where = f"{place}, word {k}"
            word = as_record(record, where)
            label = text_of(word, "text", where, longest=_MAX_TEXT)
            corners = list_of(word, "poly", where, longest=4)
            points = [numbers(corner, 2, "poly", where) for corner in corners]
            if len(points) != 4:
                raise ConfigError(f"{where}: poly: {len(points)} corners given; expected 4")
            if label and word.get("legible", True) is True:
                a, b, c, d = ((x, y) for x, y in points)
                words.append(_word(word, label, _around(points), (a, b, c, d), size, where))
        yield place, _picture(text_of(entry, "file", place), size, words)


def _picture(file: str, size: tuple[int, int], words: list[Word]) -> TextPicture:
    inside = tuple(word for word in words if _is_inside(word.box, size))
    return TextPicture(file, Path(), *size, inside, len(words) - len(inside))


def _is_inside(box: Box, size: tuple[int, int]) -> bool:
    """Return whether whole pixels of a box lie in the picture, by TokBench's truncation."""
    x0, y0, x1, y1 = (int(v) for v in box)
    width, height = size
    return max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)


def _word(
    record: Record, text: str, box: Box, quad: Quad | None, size: tuple[int, int], place: str
) -> Word:
    length = max(box[2] - box[0], box[3] - box[1])
    ratio = _stated(record, "ratio", length / len(text) / max(size), place)
    tall = _height(text, box, quad)
    return Word(text, box, ratio, _stated(record, "height", tall, place), quad)


def _stated(record: Record, key: str, computed: float, place: str) -> float:
    value: Any = record.get(key, computed)
    if not is_number(value) or not 0 <= value <= MAX_SIDE:
        raise ConfigError(f"{place}: {key}: {shown(value)} given; expected a number of at least 0")
    return float(value)


def _around(points: Sequence[Sequence[float]]) -> Box:
    xs, ys = ([point[i] for point in points] for i in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _height(text: str, box: Box, quad: Quad | None) -> float:
    """Return the height of characters: the left and right ends of what is longer than tall.

    One or two characters are often taller than long; three and more that are, run downwards.
    """
    if quad is None:
        long, tall = box[2] - box[0], box[3] - box[1]
    else:
        a, b, c, d = quad
        long = (math.dist(a, b) + math.dist(c, d)) / 2
        tall = (math.dist(b, c) + math.dist(d, a)) / 2
    return max(tall if len(text) < 3 else min(long, tall), 0.0)


__all__ = [
    "LINES",
    "MAX_WORDS",
    "Box",
    "Point",
    "Quad",
    "TextPicture",
    "Word",
    "read_text_set",
]
