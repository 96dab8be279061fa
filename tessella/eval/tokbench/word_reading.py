"""Words of pictures read by an engine (TokBench, arXiv 2505.18142).

TokBench cuts boxes along the axes, ends exclusive, without margin or rotation. Slanted and vertical
words are hard to read in such a box, even in the original; where the corners are annotated they can
be straightened first. Either way original and reconstruction are cut alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from tessella.errors import ConfigError, ShapeError
from tessella.eval.tokbench.crops import crop_word
from tessella.eval.tokbench.quads import straightened
from tessella.eval.tokbench.text_annotations import TextPicture, Word
from tessella.eval.tokbench.text_engines.base import Reading, TextEngine
from tessella.images import Pixels

Crops = Literal["box", "quad"]

_AT_A_TIME = 1024  # words; a multiple of the batch that published figures were made with
_TALL = 1.5  # height over width from which text may run upwards or downwards


class _Cut(NamedTuple):
    crops: tuple[Pixels, ...]  # the same word, in several turns
    label: str


def read_words(
    engine: TextEngine, picture: Pixels, words: Sequence[Word], *, crops: Crops = "box"
) -> list[str]:
    """Read the words of one picture.

    Args:
        engine: what reads.
        picture: uint8 RGB ``(H, W, 3)``, at the size of the annotation.
        words: to read.
        crops: ``box``: as TokBench cuts; ``quad``: words whose corners are known are straightened,
            and of tall ones the surest of three turns is taken.

    Returns:
        What was read of each word; empty where nothing was, or nothing of it lies inside.

    Raises:
        ConfigError: if there are no such crops.
        ShapeError: if the picture is of another kind.
    """
    return next(read_set(engine, [(picture, words)], crops=crops))


def read_set(
    engine: TextEngine,
    pictures: Iterable[tuple[Pixels, Sequence[Word]]],
    *,
    crops: Crops = "box",
) -> Iterator[list[str]]:
    """Read the words of many pictures, in order; see :func:`read_words`.

    Words of several pictures are given to the engine together, which engines that start a program
    or run in batches are faster with. Pictures are taken as they are needed.

    Yields:
        For each picture what was read of its words.
    """
    if crops not in ("box", "quad"):
        raise ConfigError(f"crops={crops!r} given; expected box or quad")
    waiting: list[_Cut] = []
    counts: list[int] = []
    texts: list[str] = []
    for picture, words in pictures:
        counts.append(len(words))
        waiting += [_cut(picture, word, crops) for word in words]
        while len(waiting) >= _AT_A_TIME:
            texts += _read(engine, waiting[:_AT_A_TIME])
            waiting = waiting[_AT_A_TIME:]
        while counts and counts[0] <= len(texts):
            yield texts[: counts[0]]
            texts = texts[counts.pop(0) :]
    texts += _read(engine, waiting)
    for count in counts:
        yield texts[:count]
        texts = texts[count:]


def keep_read(
    pictures: Sequence[TextPicture], readings: Sequence[Sequence[str]]
) -> tuple[TextPicture, ...]:
    """Keep the words that were read exactly in the originals, as TokBench chose its words.

    Args:
        pictures: of a set.
        readings: what was read of the words of each original.

    Raises:
        ShapeError: if the numbers differ.
    """
    if [len(p.words) for p in pictures] != [len(found) for found in readings]:
        raise ShapeError("readings given that do not fit the pictures; expected one each a word")
    kept = []
    for picture, found in zip(pictures, readings, strict=True):
        pairs = zip(picture.words, found, strict=True)
        words = tuple(word for word, text in pairs if word.text == text)
        kept += [replace(picture, words=words)] if words else []
    return tuple(kept)


def _cut(picture: Pixels, word: Word, crops: Crops) -> _Cut:
    if crops == "quad" and word.quad is not None:
        crop = straightened(picture, word.quad)
        if crop is not None and crop.shape[0] >= _TALL * crop.shape[1]:
            turned = tuple(np.ascontiguousarray(np.rot90(crop, turns)) for turns in (0, 1, -1))
            return _Cut(turned, word.text)
    else:
        crop = crop_word(picture, word.box)
    return _Cut(() if crop is None else (crop,), word.text)


def _read(engine: TextEngine, cuts: Sequence[_Cut]) -> list[str]:
    crops = [crop for cut in cuts for crop in cut.crops]
    labels = [cut.label for cut in cuts for _ in cut.crops]
    readings = iter(engine.read(crops, labels=labels))
    texts = []
    for cut in cuts:
        found = [next(readings) for _ in cut.crops] or [Reading("", 0.0)]
        texts.append(max(found, key=lambda reading: reading.confidence).text)
    return texts


__all__ = ["Crops", "keep_read", "read_set", "read_words"]
