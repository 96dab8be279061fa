"""Sets of pictures behind one index: folders, glob patterns, single files and tar shards.

Nothing is decoded until it is asked for, and the order depends on names only, so that an index
means the same picture in every process and after every restart.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tessella.data.tar_shards import is_picture, picture_members
from tessella.errors import ConfigError, PictureError
from tessella.images import PICTURE_SUFFIXES, Pixels, decode_rgb

_WHOLE_FILE = -1


class PictureSet:
    """Pictures of several sources; ``pictures[i]`` is uint8 ``(H, W, 3)`` RGB.

    Args:
        sources: folders (searched recursively, tar shards in them included), glob patterns,
            tar shards or single pictures.
        weights: how often a picture of each source is drawn relative to pictures of the others;
            all alike when empty.
        cache_mb: keep decoded pictures in memory up to this many megabytes.

    Raises:
        ConfigError: if a source holds no pictures, or the weights do not fit.
        PictureError: if a shard is damaged.
    """

    def __init__(
        self, sources: Sequence[str], *, weights: Sequence[float] = (), cache_mb: int = 0
    ) -> None:
        if weights and (len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0):
            raise ConfigError(
                f"weights {list(weights)} given for {len(sources)} sources; expected one "
                "non-negative number a source, not all 0"
            )
        self._files: list[Path] = []
        records: list[tuple[int, int, int]] = []
        counts = []
        for source in sources:
            before = len(records)
            for path in find_files(source):
                self._add(path, records)
            counts.append(len(records) - before)
            if not counts[-1]:
                raise ConfigError(_nothing_found(source))
        self._records = np.array(records, dtype=np.int64).reshape(-1, 3)
        self.counts = tuple(counts)
        each = np.repeat(np.asarray(weights or [1.0] * len(counts)), counts)
        self._cumulative = np.cumsum(each) / max(each.sum(), 1e-300)
        self._room = cache_mb * 10**6
        self._cache: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Pixels:
        """Decode a picture to uint8 ``(H, W, 3)`` RGB, upright; do not write to it.

        Raises:
            PictureError: naming the picture, if it is damaged or cannot be read.
        """
        if index in self._cache:
            return self._cache[index]
        pixels = decode_rgb(self.read_bytes(index), name=self.name(index))
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._cache[index] = pixels
        return pixels

    def draw(self, rng: np.random.Generator) -> int:
        """Return a random index, by the weights of the sources."""
        return min(
            int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self) - 1
        )

    def read_bytes(self, index: int) -> bytes:
        """Return the picture's file as it is stored.

        Raises:
            PictureError: if the file has gone or is shorter than it was.
        """
        file, offset, size = (int(v) for v in self._records[index])
        try:
            with self._files[file].open("rb") as stream:
                stream.seek(offset)
                content = stream.read(size) if size != _WHOLE_FILE else stream.read()
        except OSError as error:
            raise PictureError(f"{self.name(index)} cannot be read: {error}") from error
        if size not in (_WHOLE_FILE, len(content)):
            raise PictureError(
                f"{self.name(index)}: {len(content)} of {size} bytes are left; the shard was cut "
                "while in use"
            )
        return content

    def name(self, index: int) -> str:
        """Return the picture's path; of a shard's picture with its place."""
        file, offset, size = (int(v) for v in self._records[index])
        path = str(self._files[file])
        return path if size == _WHOLE_FILE else f"{path} at byte {offset}"

    def location(self, index: int) -> tuple[Path, int | None]:
        """Return the file of a picture, and where its bytes begin if that is a shard."""
        file, offset, size = (int(v) for v in self._records[index])
        return self._files[file], None if size == _WHOLE_FILE else offset

    def _add(self, path: Path, records: list[tuple[int, int, int]]) -> None:
        file = len(self._files)
        self._files.append(path)
        if path.suffix.lower() == ".tar":
            records.extend((file, m.offset, m.size) for m in picture_members(path))
        else:
            records.append((file, 0, _WHOLE_FILE))


def find_files(source: str) -> list[Path]:
    """Return the pictures and shards of a source, sorted by name.

    Args:
        source: a folder, a glob pattern (``**`` included), a shard or a picture.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _pictures_and_shards(path)
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  # absolute patterns too
    files = {file: None for match in matches for file in _pictures_and_shards(Path(match))}
    return list(files)


def _pictures_and_shards(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if _is_source(p) and p.is_file())
    return [path] if _is_source(path) else []


def _is_source(path: Path) -> bool:
    return is_picture(path.name) or path.suffix.lower() == ".tar"


def _nothing_found(source: str) -> str:
    wanted = ", ".join(sorted(PICTURE_SUFFIXES))
    if any(c in source for c in "*?[") or Path(source).expanduser().exists():
        return f"{source!r} holds no pictures; expected files ending in {wanted} or .tar shards"
    return f"{source!r} does not exist; expected a folder, a glob pattern, a .tar or a picture"


__all__ = ["PictureSet", "find_files"]
