"""Pictures with class labels: folders named by class, and tar shards with ``.cls`` members.

A folder source has one folder a class, in the order of their names; a shard has ``NAME.cls`` (an
integer in ASCII) beside ``NAME.jpg`` (webdataset's convention). Pictures without a label are left
out.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from tessella.data.crops import first_readable
from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError, PictureError
from tessella.images import Pixels

_MOST_DIGITS = 9


class LabelledBatch(NamedTuple):
    """Crops uint8 ``(B, 3, H, W)`` and labels ``(B,)``, and what could not be read."""

    images: Tensor
    labels: Tensor
    problems: tuple[str, ...]


class LabelledSample(NamedTuple):
    """One crop uint8 ``(H, W, 3)``, its label, and what could not be read on the way to it."""

    pixels: Pixels
    label: int
    problems: tuple[str, ...]


class LabelledSet:
    """Pictures of several sources that have a class.

    Args:
        sources: folders of class folders, or tar shards (a folder of them, a glob pattern).
        cache_mb: keep decoded pictures in memory up to this many megabytes.
        names: of the classes of folders, in the order of their numbers, such as those of the
            training set; all that there are, sorted, by default.

    Raises:
        ConfigError: if a source holds no pictures, none has a label, or a folder has another name.
        PictureError: if a shard is damaged.
    """

    def __init__(
        self, sources: Sequence[str], *, cache_mb: int = 0, names: Sequence[str] = ()
    ) -> None:
        self.pictures = PictureSet(sources, cache_mb=cache_mb)
        places = [self.pictures.location(i) for i in range(len(self.pictures))]
        folders = {path.parent.name for path, offset in places if offset is None}
        self.names = tuple(names) or tuple(sorted(folders))
        unknown = sorted(folders - set(self.names))
        if unknown:
            raise ConfigError(
                f"{', '.join(sources)} has the class {unknown[0]!r}; expected folders of the "
                f"classes {', '.join(self.names)}"
            )
        of_folder = {name: number for number, name in enumerate(self.names)}
        in_shards = {path for path, offset in places if offset is not None}
        shards = {path: shard_labels(path) for path in in_shards}
        found = [
            of_folder[path.parent.name] if offset is None else shards[path].get(offset, -1)
            for path, offset in places
        ]
        self.indices = [i for i, label in enumerate(found) if label >= 0]
        self.labels = [label for label in found if label >= 0]
        if not self.indices:
            raise ConfigError(
                f"{', '.join(sources)} given, and no picture has a label; expected one folder a "
                "class, or tar shards with NAME.cls beside NAME.jpg"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return max(self.labels) + 1

    def __getitem__(self, place: int) -> tuple[Pixels, int]:
        """Return a picture's pixels ``(H, W, 3)`` and its label.

        Raises:
            PictureError: if it is damaged or cannot be read.
        """
        return self.pictures[self.indices[place]], self.labels[place]


def shard_labels(path: Path) -> dict[int, int]:
    """Return the label of each picture of a tar shard, by the offset of its bytes.

    Raises:
        PictureError: if a label is no integer, or the shard is damaged.
    """
    labels: dict[str, int] = {}
    offsets: dict[int, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem = str(PurePosixPath(member.name).with_suffix(""))
                if member.isreg() and member.name.endswith(".cls"):
                    stream = archive.extractfile(member)
                    text = stream.read(_MOST_DIGITS + 1).strip() if stream else b""
                    if not text.isdigit() or len(text) > _MOST_DIGITS:
                        raise PictureError(
                            f"{path}: {member.name} holds {text!r}; expected a class number"
                        )
                    labels[stem] = int(text)
                elif member.isreg():
                    offsets[member.offset_data] = stem
    except (tarfile.TarError, OSError) as error:
        raise PictureError(f"{path} cannot be read as a tar shard ({error})") from error
    return {offset: labels[stem] for offset, stem in offsets.items() if stem in labels}


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """How a whole picture becomes a training square.

    Args:
        size: side in pixels.
        enlarge: the shorter side becomes ``size * enlarge`` before a random square is cut.
        flip: mirror half of the squares.
    """

    size: int
    enlarge: float = 1.125
    flip: bool = False


def view(picture: Pixels, settings: ViewSettings, rng: np.random.Generator | None) -> Pixels:
    """Resize a picture ``(H, W, 3)`` (Lanczos) and cut a square.

    Args:
        picture: uint8.
        settings: sizes.
        rng: place of the square and mirroring; None for the central square of the whole shorter
            side, not mirrored.
    """
    size = settings.size
    shorter = round(size * settings.enlarge) if rng is not None else size
    height, width = picture.shape[:2]
    factor = shorter / min(height, width)
    whole = (max(size, round(width * factor)), max(size, round(height * factor)))
    image = Image.fromarray(picture).resize(whole, Image.Resampling.LANCZOS)
    top, left = rng.random(2) if rng is not None else (0.5, 0.5)
    y, x = math.floor(top * (whole[1] - size + 1)), math.floor(left * (whole[0] - size + 1))
    square = np.asarray(image)[y : y + size, x : x + size]
    mirrored = rng is not None and settings.flip and rng.random() < 0.5
    return square[:, ::-1] if mirrored else square


class ViewDataset(Dataset[LabelledSample]):
    """Squares addressed by ``(step, place in the batch)``, each from its own stream of noise.

    Args:
        pictures: where they come from.
        settings: how they are cut.
        seed: start of every stream.
    """

    def __init__(
        self, pictures: LabelledSet, settings: ViewSettings, *, seed: Sequence[int]
    ) -> None:
        self.pictures = pictures
        self.settings = settings
        self.seed = tuple(seed)

    def __getitem__(self, key: tuple[int, int]) -> LabelledSample:
        """Return the square at ``(step, place)``.

        Raises:
            PictureError: if 64 pictures in a row cannot be read.
        """
        rng = np.random.default_rng((*self.seed, *key))
        found, problems = first_readable(
            lambda: self.pictures[int(rng.integers(len(self.pictures)))]
        )
        picture, label = found
        return LabelledSample(view(picture, self.settings, rng), label, problems)


def collate_labelled(samples: Sequence[LabelledSample]) -> LabelledBatch:
    """Stack samples into one batch."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    labels = torch.tensor([sample.label for sample in samples])
    problems = tuple(problem for sample in samples for problem in sample.problems)
    return LabelledBatch(pixels.permute(0, 3, 1, 2).contiguous(), labels, problems)


__all__ = [
    "LabelledBatch",
    "LabelledSet",
    "ViewDataset",
    "ViewSettings",
    "collate_labelled",
    "shard_labels",
    "view",
]
