"""The drawn set: heights are those of the pixels, texts are legible, the same seed is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from tessella.errors import ConfigError
from tessella.eval.tokbench.drawn_words import (
    draw_word,
    font_files,
    font_of_height,
    make_word,
)
from tessella.eval.tokbench.text_annotations import TextPicture, read_text_set
from tessella.eval.tokbench.text_engines import text_engine
from tessella.eval.tokbench.text_set import HEIGHTS, make_text_set
from tessella.eval.tokbench.word_reading import read_set
from tessella.images import save_image


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for i, picture in enumerate((data.coffee(), data.chelsea(), data.rocket())):
        save_image(folder / f"{i}.png", picture)
    return folder


@pytest.fixture(scope="module")
def made(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "texts"
    make_text_set(folder, photographs, count=3, seed=1)
    return folder


@pytest.fixture(scope="module")
def pictures(made: Path) -> tuple[TextPicture, ...]:
    return read_text_set(made)


def test_each_height_has_its_words(pictures: tuple[TextPicture, ...]) -> None:
    heights = sorted(word.height for picture in pictures for word in picture.words)
    assert heights == sorted(HEIGHTS * 3)


def test_heights_are_those_of_the_pixels(pictures: tuple[TextPicture, ...]) -> None:
    exact = measured = 0
    for picture in pictures:
        pixels = picture.load().astype(float).mean(axis=2)
        for word in picture.words:
            if not word.text.isupper():
                continue
            x0, y0, x1, y1 = (int(v) for v in word.box)
            ground = np.median(pixels[y0 - 2, x0:x1])
            letters = 225 if ground < 128 else 40
            cover = (pixels[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] - ground) / (letters - ground)
            rows = (cover.max(axis=1) > 0.5).sum()
            # round letters reach a little beyond the line, an H does not
            assert 0 <= rows - word.height <= 2
            exact += int(rows == word.height)
            measured += 1
    assert exact > 3
    assert exact > measured / 2


def test_words_do_not_overlap_and_stand_out(pictures: tuple[TextPicture, ...]) -> None:
    for picture in pictures:
        taken = np.zeros((picture.height, picture.width), dtype=int)
        pixels = picture.load().astype(float).mean(axis=2)
        for word in picture.words:
            x0, y0, x1, y1 = (int(v) for v in word.box)
            taken[y0:y1, x0:x1] += 1
            inside = pixels[y0:y1, x0:x1]
            assert np.ptp(np.percentile(inside, (2, 98))) > 120
        assert taken.max() == 1


def test_both_annotations_say_the_same(made: Path, pictures: tuple[TextPicture, ...]) -> None:
    listed = read_text_set(made / "annotations" / "text_drawn.json")
    assert [p.path for p in listed] == [p.path for p in pictures]
    for ours, theirs in zip(pictures, listed, strict=True):
        for a, b in zip(ours.words, theirs.words, strict=True):
            assert (a.text, a.box, a.height) == (b.text, b.box, b.height)
            assert a.ratio == pytest.approx(b.ratio)


def test_the_same_seed_gives_the_same_files(photographs: Path, made: Path, tmp_path: Path) -> None:
    make_text_set(tmp_path / "again", photographs, count=3, seed=1)
    make_text_set(tmp_path / "other", photographs, count=3, seed=2)
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert len(files) == 2 + 3
    for file in files:
        assert (made / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    texts = [
        [
            w["text"]
            for line in (folder / "annotations.jsonl").read_text().splitlines()
            for w in json.loads(line)["words"]
        ]
        for folder in (made, tmp_path / "other")
    ]
    assert texts[0] != texts[1]


def test_the_originals_are_read(pictures: tuple[TextPicture, ...]) -> None:
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    found = read_set(text_engine("rapidocr"), ((p.load(), p.words) for p in pictures))
    pairs = [
        (word.text, text)
        for picture, texts in zip(pictures, found, strict=True)
        for word, text in zip(picture.words, texts, strict=True)
    ]
    assert sum(label == text for label, text in pairs) >= len(pairs) - 1


@pytest.mark.parametrize("height", [5, 8, 13, 48])
def test_fonts_are_found_for_each_height(height: int) -> None:
    for file in font_files():
        ink = draw_word("H", font_of_height(file, height))
        assert (ink.max(axis=1) >= 128).sum() == height


def test_words_are_of_several_kinds() -> None:
    rng = np.random.default_rng(0)
    words = [make_word(rng) for _ in range(200)]
    for kind in (str.isdigit, str.isupper, str.islower, lambda w: w.istitle()):
        assert sum(map(kind, words)) > 10
    assert all(word.isascii() and word.isalnum() and len(word) >= 2 for word in words)


def test_what_cannot_be_made_is_refused(photographs: Path, made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists"):
        make_text_set(made, photographs)
    out = tmp_path / "out"
    for options, message in (
        ({"heights": (4,)}, "heights of 5 and more"),
        ({"heights": ()}, "heights of 5 and more"),
        ({"count": 0}, "count of 1"),
        ({"heights": (400,), "count": 1}, "found no room in"),
        ({"fonts": ("none.ttf",)}, r"none\.ttf are missing"),
        ({"fonts": (photographs / "0.png",)}, "is no font"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_text_set(out, photographs, **options)  # type: ignore[arg-type]
        assert not out.exists()
    with pytest.raises(ConfigError, match="does not exist"):
        make_text_set(out, tmp_path / "nowhere")
