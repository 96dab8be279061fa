"""Random crops whose pixels depend on the seed, the step and the place in the batch only.

Every sample draws from its own stream, seeded by ``(seed, step, place)``. Nothing depends on the
number of worker processes or on how often the run was interrupted: a resumed run sees the pictures
that an uninterrupted one sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tessella.data.pictures import PictureSet
from tessella.errors import ConfigError, PictureError
from tessella.images import Pixels

T = TypeVar("T")

_NO_RESIZE = 0.1  # zooms this near to 1 cut pixels as they are: no blur, and no time
_MOST_FAILURES = 64


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How a crop is cut.

    Args:
        size: side in pixels.
        zoom: least and largest enlargement, drawn log-uniformly: a window of ``size / zoom``
            pixels becomes a crop, so that values above 1 give the smooth content of pictures
            larger than those at hand, values below 1 finer detail.
        flip: mirror half of the crops.
    """

    size: int
    zoom: tuple[float, float] = (1.0, 1.0)
    flip: bool = True


class Sample(NamedTuple):
    """One crop, uint8 ``(H, W, 3)``, and what could not be read on the way to it."""

    pixels: Pixels
    problems: tuple[str, ...]


class Batch(NamedTuple):
    """Crops, uint8 ``(B, 3, H, W)``, and what could not be read on the way to them."""

    images: Tensor
    problems: tuple[str, ...]


def random_crop(picture: Pixels, settings: CropSettings, rng: np.random.Generator) -> Pixels:
    """Cut a random square from a picture ``(H, W, 3)``; small pictures are enlarged."""
    size = settings.size
    height, width = picture.shape[:2]
    low, high = settings.zoom
    zoom = math.exp(rng.uniform(math.log(low), math.log(high)))
    top, left = rng.random(2)
    mirrored = settings.flip and rng.random() < 0.5
    if abs(zoom - 1) <= _NO_RESIZE and min(height, width) >= size:
        y, x = int(top * (height - size + 1)), int(left * (width - size + 1))
        crop = picture[y : y + size, x : x + size]
    else:
        side = min(size / zoom, height, width)
        y, x = top * (height - side), left * (width - side)
        box = (x, y, min(x + side, width), min(y + side, height))
        resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box=box)
        crop = np.asarray(resized)
    return crop[:, ::-1] if mirrored else crop


def first_readable(draw: Callable[[], T]) -> tuple[T, tuple[str, ...]]:
    """Return the first picture that can be read, and what could not be read on the way to it.

    Raises:
        PictureError: if 64 pictures in a row cannot be read.
    """
    problems: list[str] = []
    while len(problems) < _MOST_FAILURES:
        try:
            return draw(), tuple(problems)
        except PictureError as error:
            problems.append(str(error))
    raise PictureError(
        f"{_MOST_FAILURES} pictures in a row could not be read; the last: {problems[-1]}"
    )


class CropDataset(Dataset[Sample]):
    """Crops addressed by ``(step, place in the batch)``.

    A picture that cannot be read is replaced by the next draw of the same stream and named in the
    sample's problems.

    Args:
        pictures: where crops come from.
        settings: how they are cut.
        seed: start of every stream; several numbers keep streams of one seed apart.
    """

    def __init__(
        self, pictures: PictureSet, settings: CropSettings, *, seed: Sequence[int]
    ) -> None:
        self.pictures = pictures
        self.settings = settings
        self.seed = tuple(seed)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the crop at ``(step, place)``.

        Raises:
            PictureError: if 64 pictures in a row cannot be read.
        """
        rng = np.random.default_rng((*self.seed, *key))
        picture, problems = first_readable(lambda: self.pictures[self.pictures.draw(rng)])
        return Sample(random_crop(picture, self.settings, rng), problems)


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Addresses of each step's samples for one of several processes.

    A batch holds the same samples however many processes share it.

    Args:
        first: first step.
        last: step after the last.
        batch: samples of a step over all processes.
        rank: this process.
        world: number of processes.

    Raises:
        ConfigError: if the batch cannot be shared evenly.
    """

    def __init__(self, first: int, last: int, batch: int, *, rank: int = 0, world: int = 1) -> None:
        if batch % world:
            raise ConfigError(
                f"data.batch={batch} given for {world} processes; expected a multiple of {world}"
            )
        self.steps = range(first, last)
        self.places = range(rank, batch, world)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield [(step, place) for place in self.places]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into one batch."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    problems = tuple(problem for sample in samples for problem in sample.problems)
    return Batch(pixels.permute(0, 3, 1, 2).contiguous(), problems)


def make_loader(
    dataset: Dataset[Any],
    sampler: StepSampler,
    *,
    workers: int = 0,
    collate_fn: Callable[[Sequence[Any]], Any] = collate,
) -> DataLoader[Any]:
    """Return a loader of batches; ``workers`` processes change the speed only."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,  # type: ignore[arg-type]
        collate_fn=collate_fn,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        # the loader draws a seed for its workers; without its own generator that would advance
        # the caller's random state
        generator=torch.Generator(),
    )


__all__ = [
    "Batch",
    "CropDataset",
    "CropSettings",
    "Sample",
    "StepSampler",
    "collate",
    "first_readable",
    "make_loader",
    "random_crop",
]
