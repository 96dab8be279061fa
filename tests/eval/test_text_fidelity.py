"""Words of photographs: originals are read, and scores fall with the quality of a JPEG."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessella.eval.tokbench import is_equal, text_similarity
from tessella.eval.tokbench.text_annotations import TextPicture, read_text_set
from tessella.eval.tokbench.text_engines import TextEngine, text_engine
from tessella.eval.tokbench.text_normalisation import Normalisation, normalised
from tessella.eval.tokbench.word_reading import read_set
from tessella.images import Pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

QUALITIES = (50, 30, 20, 10, 5)


@pytest.fixture(scope="module")
def pictures(data_dir: Path) -> tuple[TextPicture, ...]:
    folder = data_dir / "text"
    if not folder.is_dir():
        pytest.skip("no photographs of words; give their folder by --data")
    return read_text_set(folder)


@pytest.fixture(scope="module")
def engine() -> TextEngine:
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    return text_engine("rapidocr")


def compressed(pixels: Pixels, quality: int | None) -> Pixels:
    if quality is None:
        return pixels
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream).convert("RGB"))


def pairs(
    engine: TextEngine,
    pictures: list[TextPicture],
    quality: int | None,
    rule: Normalisation,
) -> list[tuple[str, str]]:
    loaded = ((compressed(p.load(), quality), p.words) for p in pictures)
    found = read_set(engine, loaded, crops="quad")
    return [
        (normalised(word.text, rule), normalised(text, rule))
        for picture, texts in zip(pictures, found, strict=True)
        for word, text in zip(picture.words, texts, strict=True)
    ]


def test_large_words_of_the_originals_are_read(
    engine: TextEngine, pictures: tuple[TextPicture, ...]
) -> None:
    large = [
        TextPicture(p.file, p.path, p.width, p.height, words)
        for p in pictures
        if (words := tuple(word for word in p.words if word.height >= 24))
    ]
    # transcriptions of the receipts are in capitals whatever is printed
    found = pairs(engine, large, None, "loose")
    assert len(found) > 700
    assert sum(is_equal(*pair) for pair in found) / len(found) >= 0.85


def test_scores_fall_with_the_quality_of_a_jpeg(
    engine: TextEngine, pictures: tuple[TextPicture, ...]
) -> None:
    scenes = [p for p in pictures if p.file.startswith("scene")][::2]
    ladder = []
    for quality in (None, *QUALITIES):
        found = pairs(engine, scenes, quality, "strict")
        ladder.append(
            (
                sum(is_equal(*pair) for pair in found) / len(found),
                sum(text_similarity(*pair) for pair in found) / len(found),
            )
        )
    assert ladder[0][0] > 0.7
    for better, worse in pairwise(ladder):
        assert worse[0] < better[0]
        assert worse[1] < better[1]
