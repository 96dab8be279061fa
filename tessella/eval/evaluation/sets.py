"""Pictures to evaluate on: plain ones, ones with words, ones with faces.

Sets with a canvas follow TokBench (arXiv 2505.18142): each picture is padded to a square, coded,
and brought back to its own size, at which words and faces are judged.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError, PictureError
from tessella.eval.results import Kind, SetInfo
from tessella.eval.tokbench.face_annotations import Face, read_face_set
from tessella.eval.tokbench.padding import Placement, pad, restore
from tessella.eval.tokbench.text_annotations import Word, read_text_set
from tessella.images import Pixels, decode_rgb

SaveAs = Literal["png", "same"]
_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class EvalPicture:
    """One picture and what is written or seen on it.

    Args:
        name: its file, relative to the set.
        path: the file, or the tar shard that holds it.
        offset: first byte in a shard; 0 for a file.
        size: bytes in a shard; -1 for a whole file.
        digest: SHA-256 of its bytes.
        words: to be read.
        faces: to be recognised.
    """

    name: str
    path: Path
    offset: int
    size: int
    digest: str
    words: tuple[Word, ...] = ()
    faces: tuple[Face, ...] = ()

    def read(self) -> Pixels:
        """Decode it to uint8 ``(H, W, 3)``.

        Raises:
            PictureError: if it is damaged, or not the one that was listed.
        """
        data = _bytes(self.path, self.offset, self.size)
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise PictureError(f"{self.name} changed during the evaluation; start it again")
        return decode_rgb(data, name=self.name)


@dataclass(frozen=True, slots=True)
class EvalSet:
    """A named set of pictures.

    Args:
        info: its name, kind, canvas and digest.
        pictures: in the order of their names.
        save_as: how reconstructions on a canvas are kept before they are judged: ``png`` without
            loss; ``same`` as the picture's own format, JPEG of quality 75 for ``.jpg`` names, as
            in TokBench's published tables.
    """

    info: SetInfo
    pictures: tuple[EvalPicture, ...]
    save_as: SaveAs = "png"

    def to_canvas(self, pixels: Pixels) -> tuple[Pixels, Placement | None]:
        """Return what a codec is given, and where the picture lies on it."""
        if not self.info.canvas:
            return pixels, None
        canvas, placement = pad(Image.fromarray(pixels), self.info.canvas)
        return np.array(canvas), placement

    def from_canvas(self, pixels: Pixels, placement: Placement | None, name: str) -> Pixels:
        """Return a reconstruction in the picture's own size, as it would be read from a file."""
        if placement is None:
            return pixels
        picture = restore(Image.fromarray(pixels), placement)
        if self.save_as == "same" and name.lower().endswith(_JPEG):
            stream = io.BytesIO()
            picture.save(stream, "JPEG")
            picture = Image.open(stream)
        return np.array(picture.convert("RGB"))


def image_set(source: str | Path, *, limit: int = 0) -> EvalSet:
    """List plain pictures: a folder, a glob pattern, a tar shard.

    Args:
        source: where they are.
        limit: take as many, evenly spread; 0 for all.

    Raises:
        ConfigError: if there are none.
    """
    pictures = PictureSet([str(source)])
    root = Path(source).expanduser()
    found = []
    for i in _spread(len(pictures), limit):
        path, offset = pictures.location(i)
        data = pictures.read_bytes(i)
        name = path.relative_to(root).as_posix() if root in path.parents else path.name
        found.append(
            EvalPicture(
                name if offset is None else f"{name}+{offset}",
                path,
                offset or 0,
                -1 if offset is None else len(data),
                hashlib.sha256(data).hexdigest(),
            )
        )
    return _make(root, "images", found)


def text_set(source: str | Path, *, limit: int = 0) -> EvalSet:
    """List pictures whose words are known, in TokBench's formats or as JSON lines.

    Raises:
        ConfigError: if there are none, or the annotations are damaged.
    """
    listed = read_text_set(source)
    chosen = [listed[i] for i in _spread(len(listed), limit)]
    found = [replace(_whole(p.file, p.path), words=p.words) for p in chosen]
    return _make(Path(source), "text", found)


def face_set(source: str | Path, *, limit: int = 0) -> EvalSet:
    """List pictures whose faces are known, in TokBench's formats or as JSON lines.

    Raises:
        ConfigError: if there are none, or the annotations are damaged.
    """
    listed = read_face_set(source)
    chosen = [listed[i] for i in _spread(len(listed), limit)]
    found = [replace(_whole(p.file, p.path), faces=p.faces) for p in chosen]
    return _make(Path(source), "faces", found)


def with_canvases(base: EvalSet, sides: Sequence[int], save_as: SaveAs) -> list[EvalSet]:
    """Return a set for each side; 0 keeps pictures at their size."""
    return [
        EvalSet(
            replace(base.info, name=f"{base.info.name}@{side}" if side else base.info.name,
                    canvas=side),
            base.pictures,
            save_as,
        )
        for side in sides
    ]  # fmt: skip


def _make(root: Path, kind: Kind, pictures: Sequence[EvalPicture]) -> EvalSet:
    if not pictures:
        raise ConfigError(f"{root} has no pictures to evaluate {kind} on")
    digest = hashlib.sha256("".join(sorted(p.digest for p in pictures)).encode("ascii"))
    name = root.resolve().stem if root.exists() else root.name
    return EvalSet(SetInfo(name, kind, len(pictures), digest.hexdigest()), tuple(pictures))


def _whole(name: str, path: Path) -> EvalPicture:
    return EvalPicture(name, path, 0, -1, hashlib.sha256(_bytes(path, 0, -1)).hexdigest())


def _bytes(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {error}") from error


def _spread(count: int, limit: int) -> list[int]:
    """Return ``limit`` of ``count`` indices, evenly spread; all if there are no more."""
    if limit <= 0 or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


__all__ = ["EvalPicture", "EvalSet", "SaveAs", "face_set", "image_set", "text_set", "with_canvases"]
