"""Finished pieces of an evaluation on disk, so that a killed run goes on where it was.

A piece is found by a hash over everything that decides its figures: the picture's bytes, the
codec's settings, metrics, weights and engines. A piece of other settings is simply not found; a run
with one more model computes that model alone. The JSON of a piece is written last and whole: there
is no half piece.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from tessella.images import atomic_file

_PIECE = re.compile(r"\.?[0-9a-f]{32}(\.\d+)?\.(json|safetensors|bin)(\.[0-9a-f]+\.tmp)?")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one picture gave.

    Args:
        values: plain records.
        arrays: features, by name.
        files: of the reconstructions, by the place of their subject.
    """

    values: dict[str, Any]
    arrays: dict[str, Tensor]
    files: tuple[bytes, ...] = ()


class Journal:
    """A folder of pieces.

    Args:
        folder: made when the first piece is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, settings: Mapping[str, Any]) -> str:
        """Return the name of a piece."""
        text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Return whether a piece is finished."""
        return self._path(key, ".json").is_file()

    def write(self, key: str, piece: Piece) -> None:
        """Keep a piece."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(piece.files):
            self._put(key, f".{i}.bin", data)
        if piece.arrays:
            arrays = {name: value.contiguous() for name, value in piece.arrays.items()}
            self._put(key, ".safetensors", save(arrays))
        text = json.dumps({"files": len(piece.files), "values": piece.values}, allow_nan=False)
        self._put(key, ".json", text.encode("utf-8"))

    def values(self, key: str) -> dict[str, Any]:
        """Return the records of a finished piece."""
        found = json.loads(self._path(key, ".json").read_text("utf-8"))
        values: dict[str, Any] = found["values"]
        return values

    def arrays(self, key: str) -> dict[str, Tensor]:
        """Return the features of a finished piece; none if it has none."""
        path = self._path(key, ".safetensors")
        return load_file(path) if path.is_file() else {}

    def file(self, key: str, index: int) -> bytes:
        """Return the file of one subject of a finished piece."""
        return self._path(key, f".{index}.bin").read_bytes()

    def remove(self) -> None:
        """Delete all pieces, and the folder if nothing else lies in it."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if _PIECE.fullmatch(path.name):
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{key}{suffix}"

    def _put(self, key: str, suffix: str, data: bytes) -> None:
        with atomic_file(self._path(key, suffix)) as stream:
            stream.write(data)


__all__ = ["Journal", "Piece"]
