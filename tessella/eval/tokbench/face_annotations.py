"""Pictures with the faces marked in them: TokBench's annotation (arXiv 2505.18142) and an index.

Two kinds of file are read, told apart by their content::

    face_meta.json  [{"image_name", "img_height", "img_width",
                      "faces": [{"box", "kps", "ratio"}, ...]}, ...]
    index.jsonl     {"file", "width", "height", "face_box", "identity"}      one line a face

Boxes are ``x0, y0, x1, y1`` in pixels. A ``ratio`` that is not recorded is the longer side of the
box over the longer side of the picture. Other keys are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tessella.errors import ConfigError, ShapeError
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

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]

_MAX_PICTURES = 2**20
_MAX_FACES = 2**16
_FOLDER_FILES = ("annotations/face_meta.json", "face_meta.json", "index.jsonl")
_TOKBENCH_PICTURES = ("images/face_data/wflw", "images/face_data")


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a picture.

    Args:
        box: ``(x0, y0, x1, y1)`` in pixels of the upright picture; may reach outside of it.
        landmarks: left eye, right eye, nose, left and right corner of the mouth as ``(x, y)``,
            left as seen in the picture; None if they are not marked.
        ratio: size over the picture's longer side: what sorts faces into buckets.
        identity: a label that all pictures of one person share; empty if unknown.

    Raises:
        ShapeError: if the box is empty, there are not five landmarks, or a value is no number.
    """

    box: Box
    landmarks: Points | None
    ratio: float
    identity: str = ""

    def __post_init__(self) -> None:
        points = self.landmarks or ()
        if self.landmarks is not None and len(points) != 5:
            raise ShapeError(f"{len(points)} landmarks given; expected 5, or None")
        coordinates = (*self.box, *(value for point in points for value in point))
        if not all(abs(value) <= MAX_SIDE for value in coordinates):  # nan is not
            raise ShapeError(
                f"box {self.box} and landmarks {shown(self.landmarks)} given; expected numbers of "
                f"at most {MAX_SIDE}"
            )
        x0, y0, x1, y1 = self.box
        if not (x0 < x1 and y0 < y1):
            raise ShapeError(f"box {self.box} given; expected x0 < x1 and y0 < y1")
        if not (math.isfinite(self.ratio) and self.ratio >= 0):
            raise ShapeError(f"ratio {self.ratio} given; expected 0 or more")


@dataclass(frozen=True, slots=True)
class FacePicture:
    """A picture and the faces in it.

    Args:
        file: its name in the annotation; reconstructions are saved under it.
        path: where it lies.
        width: in pixels.
        height: in pixels.
        faces: at least one.
    """

    file: str
    path: Path
    width: int
    height: int
    faces: tuple[Face, ...]


class _Entry(NamedTuple):
    place: str  # for messages
    file: str
    size: tuple[int, int]
    faces: tuple[Face, ...]


def read_face_set(source: str | Path) -> tuple[FacePicture, ...]:
    """Read which faces are in which pictures; the pictures themselves are not opened.

    Args:
        source: an annotation file, or a folder that holds one: ``annotations/face_meta.json``,
            ``face_meta.json`` or ``index.jsonl``. TokBench's pictures are looked for in
            ``images/face_data/wflw``, in ``images/face_data`` and beside the annotation; those of
            an index beside it.

    Returns:
        Pictures in the order of the file; those without faces are left out.

    Raises:
        ConfigError: if the annotation is missing, too large or damaged, or names a picture outside
            of its folder; the message names the file and the line or entry.
        PictureError: if pictures are missing; the message names them.
    """
    file = _annotation_file(Path(source).expanduser())
    text = read_annotation(file)
    folders = [file.parent]
    if text.lstrip()[:1] == "[":
        entries = _tokbench_entries(file, text)
        root = file.parent.parent if file.parent.name == "annotations" else file.parent
        folders = [*(root / name for name in _TOKBENCH_PICTURES), *folders]
    else:
        entries = _index_entries(file, text)
    merged = _merged(file, entries)
    paths = located(file, [(entry.place, entry.file) for entry in merged], folders)
    return tuple(FacePicture(e.file, paths[e.file], *e.size, e.faces) for e in merged)


def _annotation_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for name in _FOLDER_FILES:
        if (source / name).is_file():
            return source / name
    raise ConfigError(
        f"folder {source} holds no annotation of faces; expected one of {', '.join(_FOLDER_FILES)}"
    )


def _tokbench_entries(file: Path, text: str) -> Iterator[_Entry]:
    records = parse_json(text, str(file))
    if len(records) > _MAX_PICTURES:
        raise ConfigError(f"{file} lists {len(records)} pictures; the limit is {_MAX_PICTURES}")
    for number, value in enumerate(records, start=1):
        place = f"{file}, picture {number}"
        record = as_record(value, place)
        name = text_of(record, "image_name", place)
        place = f"{place} ({shown(name)})"
        size = side_of(record, "img_width", place), side_of(record, "img_height", place)
        found = enumerate(list_of(record, "faces", place, longest=_MAX_FACES), start=1)
        places = ((f"{place}, face {index}", face) for index, face in found)
        faces = tuple(_face(as_record(face, at), "box", size, at) for at, face in places)
        yield _Entry(place, name, size, faces)


def _index_entries(file: Path, text: str) -> Iterator[_Entry]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        record = as_record(parse_json(line, place), place)
        size = side_of(record, "width", place), side_of(record, "height", place)
        face = _face(record, "face_box", size, place)
        yield _Entry(place, text_of(record, "file", place), size, (face,))


def _face(record: Record, box_key: str, size: tuple[int, int], place: str) -> Face:
    x0, y0, x1, y1 = numbers(record.get(box_key), 4, box_key, place)
    ratio = record.get("ratio", max(x1 - x0, y1 - y0) / max(size))
    if not is_number(ratio) or not 0 <= ratio <= MAX_SIDE:
        raise ConfigError(f"{place}: ratio: {shown(ratio)} given; expected a number of 0 or more")
    identity = text_of(record, "identity", place) if "identity" in record else ""
    try:
        return Face((x0, y0, x1, y1), _landmarks(record, place), float(ratio), identity)
    except ShapeError as error:
        raise ConfigError(f"{place}: {error}") from error


def _landmarks(record: Record, place: str) -> Points | None:
    if record.get("kps") is None:
        return None
    points = [numbers(p, 2, "kps", place) for p in list_of(record, "kps", place, longest=5)]
    return tuple((x, y) for x, y in points)


def _merged(file: Path, entries: Iterator[_Entry]) -> list[_Entry]:
    """Put the faces of one picture together, wherever the file lists them."""
    merged: dict[str, _Entry] = {}
    for entry in entries:
        if not entry.faces:
            continue
        first = merged.setdefault(entry.file, entry._replace(faces=()))
        if entry.size != first.size:
            raise ConfigError(
                f"{entry.place}: {shown(entry.file)} is {entry.size[0]} x {entry.size[1]}, but "
                f"{first.size[0]} x {first.size[1]} before"
            )
        merged[entry.file] = first._replace(faces=first.faces + entry.faces)
    if not merged:
        raise ConfigError(f"{file} names no faces; expected TokBench's face_meta.json or an index")
    return list(merged.values())


__all__ = ["Box", "Face", "FacePicture", "Points", "read_face_set"]
