"""Engines read drawn words; a crop's reading is its own, whatever lies beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessella.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from tessella.eval.tokbench.drawn_words import draw_word, font_files, font_of_height
from tessella.eval.tokbench.text_engines import TextEngine, text_engine
from tessella.eval.tokbench.text_engines.tesseract_engine import prepared
from tessella.images import Pixels

WORDS = ("Hello", "TESSELLA", "2026", "mosaic", "to", "reconstruction")


def crop(text: str, height: int = 20, letters: int = 10, ground: int = 240) -> Pixels:
    """A word, closely cut."""
    ink = draw_word(text, font_of_height(font_files()[0], height)) / 255.0
    grey = ground + (letters - ground) * np.pad(ink, 2)
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def rapidocr() -> TextEngine:
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    return text_engine("rapidocr")


def test_rapidocr_reads_words_dark_and_light(rapidocr: TextEngine) -> None:
    crops = [crop(w, *look) for w in WORDS for look in ((20, 10, 240), (12, 230, 60))]
    found = rapidocr.read(crops)
    assert [r.text for r in found] == [w for w in WORDS for _ in range(2)]
    assert all(0.7 < r.confidence <= 1 for r in found)


def test_neighbours_and_threads_change_nothing(rapidocr: TextEngine) -> None:
    crops = [crop(word, height) for word, height in zip(WORDS, (9, 24) * 3, strict=True)]
    together = rapidocr.read(crops)
    assert rapidocr.read(crops[::-1])[::-1] == together
    assert [rapidocr.read([c])[0] for c in crops] == together
    assert text_engine("rapidocr", threads=3).read(crops) == together


def test_crops_of_any_size_are_taken(rapidocr: TextEngine) -> None:
    shapes = ((1, 1), (1, 4000), (3000, 2))
    found = rapidocr.read([np.full((*shape, 3), 128, np.uint8) for shape in shapes])
    assert [(r.text, r.confidence) for r in found] == [("", 0.0)] * 3
    assert rapidocr.read([]) == []


def test_rapidocr_agrees_with_its_own_package(rapidocr: TextEngine) -> None:
    package = pytest.importorskip("rapidocr")
    whole = package.RapidOCR(params={"Global.log_level": "critical"})
    texts = [WORDS[0], WORDS[-1], "GST @6% included"]
    crops = [crop(text, 24) for text in texts]
    found = [whole(c[:, :, ::-1].copy(), use_det=False, use_cls=False).txts for c in crops]
    assert [(r.text,) for r in rapidocr.read(crops)] == found


def test_the_identity_names_versions_and_weights(rapidocr: TextEngine) -> None:
    folder = Path(str(importlib.util.find_spec("rapidocr").origin)).parent  # type: ignore[union-attr]
    digests = {hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("models/*rec*.onnx")}
    assert any(f"sha256:{digest}" in rapidocr.identity for digest in digests)
    assert rapidocr.identity.startswith("rapidocr (rapidocr ")
    assert "onnxruntime " in rapidocr.identity


def test_weights_that_are_no_recogniser_are_refused(rapidocr: TextEngine, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="does not exist"):
        text_engine("rapidocr", weights=tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(b"words")
    with pytest.raises(CheckpointError, match="cannot be read by onnxruntime"):
        text_engine("rapidocr", weights=tmp_path / "x.onnx")
    folder = Path(str(importlib.util.find_spec("rapidocr").origin)).parent  # type: ignore[union-attr]
    for other in folder.glob("models/*cls*.onnx"):
        with pytest.raises(CheckpointError, match="expected a PP-OCR recogniser"):
            text_engine("rapidocr", weights=other)


FAKE = """#!{python}
import sys
from PIL import Image
if "--version" in sys.argv:
    print("tesseract 9.8.7")
elif "--list-langs" in sys.argv:
    print('List of available languages in "{data}/" (1):')
else:
    print("level\\tpage_num\\tconf\\ttext")
    for page, name in enumerate(open(sys.argv[1]).read().split(), start=1):
        width, height = Image.open(name).size
        print(f"1\\t{{page}}\\t-1\\t")
        if width > 60:
            print(f"5\\t{{page}}\\t90\\t{{width}}")
            print(f'5\\t{{page}}\\t50\\t"{{height}}')
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of tesseract's name, which tells the size of pictures."""
    file = tmp_path / "bin" / "tesseract"
    file.parent.mkdir()
    file.write_text(FAKE.format(python=sys.executable, data=tmp_path))
    file.chmod(0o755)
    (tmp_path / "eng.traineddata").write_bytes(b"data")
    monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")
    return file


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec

    def found(name: str, *rest: Any) -> Any:
        return None if name in packages else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)


def test_tesseracts_table_is_read_page_by_page(program: Path) -> None:
    engine = text_engine("tesseract")
    assert engine.identity == (
        f"tesseract (tesseract 9.8.7, eng.traineddata sha256:{hashlib.sha256(b'data').hexdigest()})"
    )
    shapes = [(16, 40), (32, 32), (64, 200)] * 30  # 80, 32 and 100 wide at height 32
    found = engine.read([np.zeros((*shape, 3), np.uint8) for shape in shapes])
    assert [r.text for r in found] == ['100 "52', "", '120 "52'] * 30
    assert [r.confidence for r in found[:3]] == pytest.approx([0.7, 0, 0.7])


def test_a_tesseract_that_fails_or_has_no_data_says_so(program: Path, tmp_path: Path) -> None:
    engine = text_engine("tesseract")
    (tmp_path / "eng.traineddata").unlink()
    with pytest.raises(MissingDependencyError, match="no English data"):
        text_engine("tesseract")
    program.write_text(f"#!{sys.executable}\nraise SystemExit('out of ink')\n")
    with pytest.raises(CheckpointError, match="out of ink"):
        engine.read([np.zeros((20, 50, 3), np.uint8)])


def test_auto_takes_what_is_installed(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "rapidocr")
    assert text_engine().name == "tesseract"
    with pytest.raises(MissingDependencyError, match=r"rapidocr: pip install 'tessella\[text\]'"):
        text_engine("rapidocr")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match=r"no text engine.*tessella\[text\]"):
        text_engine()


@pytest.mark.parametrize(("letters", "ground"), [(10, 240), (230, 40), (150, 110)])
def test_crops_for_tesseract_are_dark_on_light(letters: int, ground: int) -> None:
    found = prepared(crop("mosaic", 30, letters, ground))
    assert found.shape[0] == 52
    assert (found[:10] == 255).all()
    inside = found[10:-10, 10:-10]
    assert np.median(inside) > 240
    assert inside.min() < 10


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program is not installed")
def test_tesseract_reads_words_dark_and_light() -> None:
    crops = [crop(w, *look) for w in WORDS for look in ((24, 10, 240), (24, 230, 60))]
    crops.insert(3, np.full((30, 80, 3), 200, np.uint8))
    texts = [r.text for r in text_engine("tesseract").read(crops)]
    assert texts.pop(3) == ""
    assert texts == [w for w in WORDS for _ in range(2)]
