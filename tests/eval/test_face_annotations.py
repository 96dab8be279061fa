"""Annotations of faces: two formats, and files that are damaged or mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tessella.errors import ConfigError, PictureError, ShapeError
from tessella.eval.tokbench import annotation_files
from tessella.eval.tokbench.face_annotations import Face, read_face_set

KPS = [[10, 10], [20, 10], [15, 15], [11, 20], [19.5, 20]]


def face(**values: Any) -> dict[str, Any]:
    return {"kps": KPS, "box": [5, 5, 25, 30.5], "gt": "kept", "ratio": 0.3, **values}


def picture(name: str, *faces: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {
        "image_name": name,
        "img_height": 100,
        "img_width": 80,
        "faces": list(faces),
        **values,
    }


def line(name: str = "a.jpg", **values: Any) -> dict[str, Any]:
    box = [10, 20, 30, 60]
    return {"file": name, "width": 80, "height": 100, "face_box": box, "identity": "p1", **values}


def write_index(folder: Path, *records: dict[str, Any]) -> Path:
    file = folder / "index.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return file


@pytest.fixture
def tokbench(tmp_path: Path) -> Path:
    """A folder in TokBench's layout."""
    pictures = tmp_path / "images" / "face_data" / "wflw"
    pictures.mkdir(parents=True)
    (pictures / "one.jpg").touch()
    (pictures / "two.jpg").touch()
    (tmp_path / "annotations").mkdir()
    unmarked = {"box": [0, 0, 20, 10]}
    records = [
        picture("one.jpg", face(), unmarked),
        picture("none.jpg"),
        picture("two.jpg", face()),
    ]
    (tmp_path / "annotations" / "face_meta.json").write_text(json.dumps(records))
    return tmp_path


@pytest.mark.parametrize("inside", ["", "annotations/face_meta.json"])
def test_tokbench_layout(tokbench: Path, inside: str) -> None:
    first, second = read_face_set(tokbench / inside)
    assert (first.file, first.width, first.height) == ("one.jpg", 80, 100)
    assert first.path.samefile(tokbench / "images/face_data/wflw/one.jpg")
    marked, unmarked = first.faces
    assert marked.box == (5.0, 5.0, 25.0, 30.5)
    assert marked.landmarks == tuple(map(tuple, KPS))
    assert (marked.ratio, marked.identity) == (0.3, "")
    assert unmarked.landmarks is None
    assert unmarked.ratio == 20 / 100
    assert second.file == "two.jpg"


def test_pictures_beside_the_annotation(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "faces.json").write_text(json.dumps([picture("a.png", face())]))
    (found,) = read_face_set(str(tmp_path / "faces.json"))
    assert found.path.samefile(tmp_path / "a.png")


def test_an_index_lists_one_face_a_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jpg").touch()
    (tmp_path / "a.jpg").touch()
    file = write_index(
        tmp_path, line(), line("sub/b.jpg"), line(face_box=[0, 0, 8, 4], identity="p2", ratio=0.25)
    )
    for source in (tmp_path, file):
        first, second = read_face_set(source)
        assert [f.identity for f in first.faces] == ["p1", "p2"]
        assert [f.ratio for f in first.faces] == [0.4, 0.25]
        assert second.file == "sub/b.jpg"
        assert second.faces[0].box == (10.0, 20.0, 30.0, 60.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_box": [30, 20, 10, 60]}, "line 2: box .* expected x0 < x1"),
        ({"face_box": [1, 2, 3]}, "line 2: face_box: .* expected 4 numbers"),
        ({"face_box": [1, 2, 3, "4"]}, "line 2: face_box: .* expected 4 numbers"),
        ({"face_box": [1, 2, True, 4]}, "line 2: face_box: .* expected 4 numbers"),
        ({"face_box": [0, 0, 10**400, 4]}, "line 2: face_box: .* numbers of at most"),
        ({"face_box": {"x": 1}}, "line 2: face_box: .* expected 4 numbers"),
        ({"width": 0}, "line 2: width: 0 given; expected 1 to"),
        ({"height": 10**9}, "line 2: height: 1000000000 given"),
        ({"height": True}, "line 2: height: True given"),
        ({"width": "80"}, "line 2: width: '80' given"),
        ({"ratio": -1}, "line 2: ratio: -1 given; expected a number of 0 or more"),
        ({"ratio": None}, "line 2: ratio: None given"),
        ({"kps": KPS[:3]}, "line 2: 3 landmarks given; expected 5"),
        ({"kps": KPS + KPS}, "line 2: kps: 10 entries given"),
        ({"kps": 7}, "line 2: kps: 7 given"),
        ({"kps": [7] * 5}, "line 2: kps: 7 given; expected 2 numbers"),
        ({"identity": ["p"]}, "line 2: identity: .* expected a string"),
        ({"file": None}, "line 2: file: None given; expected a string"),
        ({"width": 81}, "line 2: 'a.jpg' is 81 x 100, but 80 x 100 before"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "a.jpg").touch()
    file = write_index(tmp_path, line(), line(**change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_face_set(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "sub/../../a.jpg", "/a.jpg", "..\\a.jpg", "C:\\a.jpg", "", "a\0.jpg"]
)
def test_pictures_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ConfigError, match=r"line 1: picture .* expected a file inside the folder"):
        read_face_set(write_index(inner, line(name)))


def test_pictures_may_be_links(tmp_path: Path) -> None:
    inner = tmp_path / "inner"  # caches of data sets are made of links
    inner.mkdir()
    (tmp_path / "stored").touch()
    (inner / "a.jpg").symlink_to(tmp_path / "stored")
    assert read_face_set(write_index(inner, line()))[0].path == inner / "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no faces"),
        ("[]", "names no faces"),
        ('[{"image_name": "a.jpg",\n"faces": oops}]', "line 2: no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[NaN]", "NaN is no number"),
        ("[1" + "0" * 5000 + "]", "no valid JSON"),
        ("[3]", "picture 1: 3 given; expected an object"),
        ('[{"faces": []}]', "picture 1: image_name: nothing given"),
        (json.dumps([picture("a.jpg", 4)]), r"picture 1 \('a.jpg'\), face 1: 4 given"),  # type: ignore[arg-type]
        (json.dumps([picture("a.jpg", face(box=None))]), "face 1: box: None given"),
        ('{"file": "a.jpg"}\n', "line 1: width: None given"),
        ("plain words", "line 1: no valid JSON"),
        ('{"file": "a.jpg"\n}', "line 1: no valid JSON"),
        ('"words"', "line 1: 'words' given; expected an object"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "faces.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_face_set(file)


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds no annotation"):
        read_face_set(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_face_set(tmp_path / "absent.json")
    (tmp_path / "picture.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_face_set(tmp_path / "picture.json")
    monkeypatch.setattr(annotation_files, "MAX_FILE_BYTES", 50)
    with pytest.raises(ConfigError, match="limit of 50 bytes"):
        read_face_set(write_index(tmp_path, line()))


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    write_index(tmp_path, line(), *(line(f"b{i}.jpg") for i in range(9)))
    with pytest.raises(PictureError, match=r"9 pictures .* 'b0.jpg', .* 'b4.jpg', \.\.\.;"):
        read_face_set(tmp_path)


def test_faces_are_checked() -> None:
    with pytest.raises(ShapeError, match="x0 < x1"):
        Face((0, 0, 0, 1), None, 0.1)
    with pytest.raises(ShapeError, match="numbers of at most"):
        Face((0, 0, float("nan"), 1), None, 0.1)
    with pytest.raises(ShapeError, match="ratio"):
        Face((0, 0, 1, 1), None, float("inf"))
