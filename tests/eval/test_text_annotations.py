"""Annotations of words: both formats, and files that are damaged or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessella.errors import ConfigError, PictureError
from tessella.eval.tokbench import annotation_files
from tessella.eval.tokbench.text_annotations import TextPicture, read_text_set
from tessella.images import save_image

SQUARE = [[10, 20], [50, 20], [50, 36], [10, 36]]


def entry(file: str = "a.png", **word: Any) -> dict[str, Any]:
    """A picture of one word in TokBench's format."""
    word = {"rec": "Tile", "bbox": [10, 20.5, 50, 36], "ratio": 0.125, "seen": [1], **word}
    return {"file_name": file, "width": 80, "height": 60, "annotations": [word]}


def line(file: str = "a.png", **word: Any) -> dict[str, Any]:
    """A picture of one word in the format of lines."""
    word = {"poly": SQUARE, "text": "Tile", "legible": True, **word}
    return {"file": file, "width": 80, "height": 60, "words": [word]}


@pytest.fixture
def tokbench(tmp_path: Path) -> Path:
    """A folder in TokBench's layout with two sets of one picture each."""
    for name in ("ic15", "cord"):
        folder = tmp_path / "images" / "text_data" / name
        folder.mkdir(parents=True)
        save_image(folder / "a.png", np.zeros((60, 80, 3), np.uint8))
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"text_{name}.json").write_text(json.dumps([entry()]))
    return tmp_path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A folder with a picture, for lines to be written into."""
    save_image(tmp_path / "a.png", np.zeros((60, 80, 3), np.uint8))
    return tmp_path


def written(folder: Path, *records: Any) -> tuple[TextPicture, ...]:
    text = "\n\n".join(r if isinstance(r, str) else json.dumps(r) for r in records)
    (folder / "annotations.jsonl").write_text(text, encoding="utf-8")
    return read_text_set(folder)


def test_sets_in_tokbenchs_layout(tokbench: Path) -> None:
    both = read_text_set(tokbench)
    assert [p.file for p in both] == ["cord/a.png", "ic15/a.png"]
    assert read_text_set(tokbench, sets=["ic15"]) == both[1:]
    file = tokbench / "annotations" / "text_ic15.json"
    assert read_text_set(file) == both[1:]
    assert both[1].path == tokbench / "images" / "text_data" / "ic15" / "a.png"
    (word,) = both[1].words
    assert (word.text, word.box, word.ratio) == ("Tile", (10, 20.5, 50, 36), 0.125)
    assert (word.height, word.quad) == (15.5, None)
    assert both[1].load().shape == (60, 80, 3)
    with pytest.raises(ConfigError, match=r"'tt'.*cord, ic15"):
        read_text_set(tokbench, sets=["tt"])


def test_pictures_may_lie_elsewhere(tokbench: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([entry()]))
    with pytest.raises(PictureError, match=r"1 pictures of .*mine\.json are missing: 'a\.png'"):
        read_text_set(file)
    (found,) = read_text_set(file, images=tokbench / "images" / "text_data" / "cord")
    assert found.path.is_file()


def test_a_ratio_that_is_not_stated_is_computed(tokbench: Path) -> None:
    file = tokbench / "annotations" / "text_ic15.json"
    record = entry()
    del record["annotations"][0]["ratio"]
    file.write_text(json.dumps([record]))
    assert read_text_set(file)[0].words[0].ratio == pytest.approx(40 / 4 / 80)


def test_lines_with_corners(lines: Path) -> None:
    hidden = {"poly": SQUARE, "text": "", "legible": False}
    outside = {"poly": [[x + 500, y] for x, y in SQUARE], "text": "gone", "legible": True}
    record = line()
    record["words"] += [hidden, outside]
    (picture,) = written(lines, record)
    (word,) = picture.words
    assert picture.dropped == 1
    assert (word.text, word.box, word.height) == ("Tile", (10, 20, 50, 36), 16)
    assert word.ratio == pytest.approx(40 / 4 / 80)
    assert word.quad == ((10, 20), (50, 20), (50, 36), (10, 36))
    assert read_text_set(lines / "annotations.jsonl") == (picture,)


@pytest.mark.parametrize(
    ("poly", "text", "height"),
    [
        ([[0, 0], [30, 40], [22, 46], [-8, 6]], "slanted", 10),  # 50 long, 10 high
        ([[10, 0], [20, 0], [20, 50], [10, 50]], "down", 10),
        ([[10, 0], [20, 0], [20, 50], [10, 50]], "1", 50),
        ([[0, 0], [40, 0], [40, 12], [0, 8]], "wedge", 10),
    ],
)
def test_height_is_that_of_characters(
    lines: Path, poly: list[list[float]], text: str, height: float
) -> None:
    ((word,),) = (p.words for p in written(lines, line(poly=poly, text=text)))
    assert word.height == pytest.approx(height)
    ((stated,),) = (p.words for p in written(lines, line(poly=poly, text=text, height=7)))
    assert stated.height == 7


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "line 3: no valid JSON"),
        ("[" * 100_000, "line 3: no valid JSON"),
        ('{"file": NaN}', "line 3: no valid JSON.*NaN"),
        ("9" * 5000, "line 3: no valid JSON"),
        ('"word"', "line 3: 'word' given; expected an object"),
        (line("../a.png"), r"line 3: picture '\.\./a\.png'"),
        (line("/etc/passwd"), "line 3: picture '/etc/passwd'"),
        (line("b\\..\\..\\a.png"), "line 3: picture"),
        (line("c:\\a.png"), "line 3: picture"),
        (line("a\0.png"), "line 3: picture"),
        (line("a.png"), "line 3: picture 'a.png' is there twice"),
        (line(poly=SQUARE[:3]), "word 0: poly: 3 corners given; expected 4"),
        (line(poly=[*SQUARE, [0, 0]]), "word 0: poly: 5 entries given"),
        (line(poly=[[1e300, 0], *SQUARE[1:]]), "word 0: poly: .*numbers of at most"),
        (line(poly=[["1", 0], *SQUARE[1:]]), "word 0: poly"),
        (line(text=None), "word 0: text: None given; expected a string"),
        (line(text="x" * 5000), "word 0: text: .*at most 1024"),
        (line(height=-1), "word 0: height: -1 given"),
        ({**line("b.png"), "width": 0}, "line 3: width: 0 given"),
        ({**line("b.png"), "height": True}, "line 3: height: True given"),
        ({**line("b.png"), "words": {}}, "line 3: words: .*expected a list"),
    ],
)
def test_damaged_lines_are_named(lines: Path, record: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"annotations\.jsonl, {message}|{message}"):
        written(lines, line(), record)


def test_damaged_lists_are_named(tokbench: Path) -> None:
    file = tokbench / "annotations" / "text_ic15.json"
    for records, message in (
        ([entry(), 3], "entry 1: 3 given"),
        ([entry(bbox=[1, 2, 3])], "entry 0, word 0: bbox"),
        ([entry(ratio="big")], "entry 0, word 0: ratio: 'big'"),
        ([entry("../../x.png")], "entry 0: picture"),
        ([], "no legible words"),
    ):
        file.write_text(json.dumps(records))
        with pytest.raises(ConfigError, match=message):
            read_text_set(file)
    file.write_text('[\n{"file_name": "a.png",\n]')
    with pytest.raises(ConfigError, match=r"text_ic15\.json, line 3"):
        read_text_set(file)


def test_files_that_cannot_be_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds no annotations of words"):
        read_text_set(tmp_path)
    file = tmp_path / "words.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text_set(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_text_set(file)
    monkeypatch.setattr(annotation_files, "MAX_FILE_BYTES", 2)
    with pytest.raises(ConfigError, match="larger than the limit"):
        read_text_set(file)


def test_a_picture_of_another_size_is_refused(lines: Path) -> None:
    (picture,) = written(lines, {**line(), "width": 81})
    with pytest.raises(PictureError, match=r"80x60 pixels; its annotation says 81x60"):
        picture.load()
