"""Cutting words and reading them with an engine that tells what it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tessella.errors import ConfigError, ShapeError
from tessella.eval.tokbench import word_reading
from tessella.eval.tokbench.quads import straightened
from tessella.eval.tokbench.text_annotations import Quad, TextPicture, Word
from tessella.eval.tokbench.text_engines import Reading, TextEngine, text_engine
from tessella.eval.tokbench.text_normalisation import described, normalised
from tessella.eval.tokbench.word_reading import keep_read, read_set, read_words
from tessella.images import Pixels

RAMP: Pixels = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)


class Teller(TextEngine):
    """Reads the shape of a crop; surer of what is brighter in its first pixel."""

    name: ClassVar[str] = "teller"

    def __init__(self) -> None:
        super().__init__({"teller": "1"})
        self.calls: list[int] = []

    def _read(self, crops: Sequence[Pixels], labels: Sequence[str] | None) -> list[Reading]:
        self.calls.append(len(crops))
        return [Reading("{}x{}".format(*c.shape), float(c[0, 0, 0]) / 255) for c in crops]


def word(
    box: tuple[float, float, float, float], text: str = "word", quad: Quad | None = None
) -> Word:
    return Word(text, box, 0.1, 10, quad)


def test_words_are_cut_as_published() -> None:
    words = [word((2, 3, 12, 8)), word((70, 0, 90, 9)), word((50.9, -4, 99, 5.9))]
    assert read_words(Teller(), RAMP, words) == ["5x10", "", "5x10"]
    assert read_words(Teller(), RAMP, []) == []
    with pytest.raises(ConfigError, match="expected box or quad"):
        read_words(Teller(), RAMP, words, crops="round")  # type: ignore[arg-type]


def test_an_upright_quadrangle_is_its_box() -> None:
    quad: Quad = ((4, 5), (24, 5), (24, 15), (4, 15))
    found = straightened(RAMP, quad)
    assert found is not None
    assert np.array_equal(found, RAMP[5:15, 4:24])
    assert straightened(RAMP, ((1, 1), (5, 5), (9, 9), (5, 5))) is None
    assert straightened(RAMP, ((3, 3),) * 4) is None


def test_a_turned_quadrangle_is_set_upright() -> None:
    # top left corner of the text at the bottom left of the picture: it runs upwards
    found = straightened(RAMP, ((4, 25), (4, 5), (14, 5), (14, 25)))
    assert found is not None
    assert np.array_equal(found, np.rot90(RAMP[5:25, 4:14], -1))


def test_the_surest_turn_of_a_tall_word_is_taken() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[5:25, 4:14] = 50
    quad: Quad = ((4, 5), (14, 5), (14, 25), (4, 25))
    tall = word((4, 5, 14, 25), quad=quad)
    picture[5, 4] = 90
    assert read_words(Teller(), picture, [tall], crops="quad") == ["20x10"]
    picture[5, 13] = 200  # the top left of what is turned to the left
    assert read_words(Teller(), picture, [tall], crops="quad") == ["10x20"]
    assert read_words(Teller(), picture, [tall]) == ["20x10"]


def test_pictures_are_read_together_and_come_back_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(word_reading, "_AT_A_TIME", 4)
    counts = (3, 0, 5, 1, 2, 0)
    sets = [[word((0, 0, 1 + i, 1 + k)) for k in range(n)] for i, n in enumerate(counts)]
    engine = Teller()
    found = list(read_set(engine, ((RAMP, words) for words in sets)))
    assert found == [[f"{1 + k}x{1 + i}" for k in range(n)] for i, n in enumerate(counts)]
    assert engine.calls == [4, 4, 3]


def test_words_that_were_read_are_kept() -> None:
    words = (word((0, 0, 9, 9), "left"), word((9, 0, 19, 9), "right"))
    first = TextPicture("a.png", Path("a.png"), 20, 10, words)
    second = replace(first, file="b.png")
    kept = keep_read((first, second), [["left", "Right"], ["", ""]])
    assert kept == (replace(first, words=words[:1]),)
    with pytest.raises(ShapeError, match="one each a word"):
        keep_read((first,), [["left"]])


def test_texts_are_compared_by_a_stated_rule() -> None:
    label, read = "GST ID :  1,5", "Gst Id：1.5"
    assert normalised(label) == label
    assert normalised(label, "loose") == "gstid:1,5"
    assert normalised(read, "loose") == "gstid:1.5"
    assert normalised(label, "alphanumeric") == normalised(read, "alphanumeric") == "gstid15"
    assert "case" in described("loose")
    with pytest.raises(ConfigError, match="strict, loose, alphanumeric"):
        normalised(label, "none")  # type: ignore[arg-type]


def test_engines_check_what_they_are_given() -> None:
    engine = Teller()
    with pytest.raises(ShapeError, match="uint8"):
        engine.read([RAMP.astype(float)])  # type: ignore[list-item]
    with pytest.raises(ShapeError, match="uint8"):
        engine.read([RAMP[:0]])
    with pytest.raises(ShapeError, match="2 labels given for 1 crops"):
        engine.read([RAMP], labels=["a", "b"])
    for name, options, message in (
        ("easyocr", {}, "rapidocr, tesseract, parseq"),
        ("auto", {"weights": "x.onnx"}, "takes none"),
        ("rapidocr", {"clip_to_batch_labels": 64}, "parseq's"),
    ):
        with pytest.raises(ConfigError, match=message):
            text_engine(name, **options)  # type: ignore[arg-type]
