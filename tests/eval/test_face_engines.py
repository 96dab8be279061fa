"""Engines that judge faces: their scales, what they cannot locate, and weights that do not fit."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tessella.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    MissingWeightsError,
    ShapeError,
)
from tessella.eval.tokbench.face_annotations import Face
from tessella.eval.tokbench.face_engines import FaceEngine, Located, face_engine
from tessella.eval.tokbench.face_engines.alignment import face_transform
from tessella.eval.tokbench.faces import Pixels

BOX = (175.0, 76.0, 265.0, 166.0)
# eyes, tip of the nose, corners of the mouth, marked by hand
LANDMARKS = ((203.2, 101.5), (246.5, 104.2), (225.0, 127.0), (201.0, 139.0), (246.0, 141.0))
MARKED = Face(BOX, LANDMARKS, 0.18)
UNMARKED = Face(BOX, None, 0.18)


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(data.astronaut())


@pytest.fixture(scope="module")
def dlib_engine() -> FaceEngine:
    pytest.importorskip("dlib")
    try:
        return face_engine("dlib")
    except MissingDependencyError:
        pytest.skip("no package face_recognition_models")


@pytest.fixture(scope="module")
def hog_engine() -> FaceEngine:
    return face_engine("hog")


def jpeg(picture: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def shrunk(picture: Pixels, factor: int) -> Pixels:
    image, lanczos = Image.fromarray(picture), Image.Resampling.LANCZOS
    small = image.resize((image.width // factor, image.height // factor), lanczos)
    return np.asarray(small.resize(image.size, lanczos))


def ladder(engine: FaceEngine, picture: Pixels, face: Face) -> list[float]:
    located = engine.locate(picture, face)
    assert located is not None
    original = engine.embed(picture, located)
    assert original.dtype == np.float64
    assert original.ndim == 1
    assert engine.similarity(original, original) == pytest.approx(1)
    damaged = [jpeg(picture, 10), jpeg(picture, 3), *(shrunk(picture, n) for n in (2, 4, 8))]
    damaged.append(np.full_like(picture, 128))
    return [engine.similarity(original, engine.embed(x, located)) for x in damaged]


def assert_falls(scores: list[float]) -> None:
    assert 1 > scores[0] > scores[1]
    assert 1 > scores[2] > scores[3] > scores[4] > scores[5]


def test_dlib_scores_fall_as_published_figures_do(
    dlib_engine: FaceEngine, astronaut: Pixels
) -> None:
    scores = ladder(dlib_engine, astronaut, UNMARKED)
    assert_falls(scores)
    assert scores == pytest.approx([0.82, 0.54, 0.97, 0.75, 0.42, 0.09], abs=0.03)


def test_dlib_scores_are_bounded_below(dlib_engine: FaceEngine) -> None:
    a, b = np.zeros(128), np.zeros(128)
    b[0] = 0.4
    assert dlib_engine.similarity(a, b) == pytest.approx(0.75)
    assert dlib_engine.similarity(a, b * 100) == -1


def test_dlib_ignores_marked_landmarks(dlib_engine: FaceEngine, astronaut: Pixels) -> None:
    marked, unmarked = (dlib_engine.locate(astronaut, face) for face in (MARKED, UNMARKED))
    assert marked == unmarked
    assert unmarked is not None
    assert unmarked.source == "dlib"


@pytest.mark.parametrize("box", [(200, 100, 201, 101), (-(2**20), -(2**20), 2**20, 2**20)])
def test_dlib_survives_boxes_of_any_size(
    dlib_engine: FaceEngine, astronaut: Pixels, box: tuple[float, float, float, float]
) -> None:
    located = dlib_engine.locate(astronaut, Face(box, None, 0.1))
    if located is not None:
        assert np.isfinite(dlib_engine.embed(astronaut, located)).all()


def test_the_identity_names_versions_and_weights(
    dlib_engine: FaceEngine, hog_engine: FaceEngine
) -> None:
    assert dlib_engine.identity.startswith("dlib (dlib ")
    assert dlib_engine.identity.count("sha256:") == 2
    assert hog_engine.identity.startswith("hog (scikit-image ")


@pytest.mark.parametrize("face", [MARKED, UNMARKED], ids=["marked", "box"])
def test_hog_scores_fall(hog_engine: FaceEngine, astronaut: Pixels, face: Face) -> None:
    scores = ladder(hog_engine, astronaut, face)
    assert_falls(scores)
    assert scores[:5] == pytest.approx([0.87, 0.70, 0.95, 0.86, 0.73], abs=0.06)
    assert scores[5] == 0  # nothing is like a flat surface


def test_the_box_is_stretched_to_the_square() -> None:
    matrix = face_transform(Located((10, 20, 38, 48), None, "box", (100, 100)))
    assert matrix is not None
    corners = np.array([[9.5, 19.5], [37.5, 47.5]])  # the edges, in coordinates of pixel centres
    np.testing.assert_allclose(corners @ matrix[:, :2].T + matrix[:, 2], [[-0.5] * 2, [111.5] * 2])


def test_faces_that_cannot_be_located(hog_engine: FaceEngine, astronaut: Pixels) -> None:
    assert hog_engine.locate(astronaut, Face((600, 10, 700, 100), None, 0.1)) is None
    assert hog_engine.locate(astronaut, Face((-50, -50, 0, 100), None, 0.1)) is None
    assert hog_engine.locate(astronaut, Face(BOX, ((5.0, 5.0),) * 5, 0.1)) is None
    centred = ((4.0, 5.0), (6.0, 5.0), (4.0, 5.0), (6.0, 5.0), (5.0, 5.0))
    assert face_transform(Located(BOX, centred, "dlib", (512, 512))) is None
    crowded = tuple((5 + i * 1e-9, 5.0) for i in range(5))
    assert hog_engine.locate(astronaut, Face(BOX, crowded, 0.1)) is None


def test_pictures_of_another_size_or_kind(hog_engine: FaceEngine, astronaut: Pixels) -> None:
    located = hog_engine.locate(astronaut, UNMARKED)
    assert located is not None
    with pytest.raises(ShapeError, match="511 x 512 given for a face of one of 512 x 512"):
        hog_engine.embed(astronaut[:, 1:], located)
    for picture in (astronaut[..., 0], astronaut / 255, astronaut[:0]):
        with pytest.raises(ShapeError, match="expected uint8"):
            hog_engine.locate(picture, UNMARKED)


def test_engines_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'mtcnn' given; expected auto, dlib, hog, arcface-onnx"):
        face_engine("mtcnn")
    for name in ("hog", "auto"):
        with pytest.raises(ConfigError, match="takes none"):
            face_engine(name, weights="a.onnx")
    with pytest.raises(MissingWeightsError, match="glintr100"):
        face_engine("arcface-onnx")
    with pytest.raises(MissingWeightsError, match=r"absent\.onnx does not exist"):
        face_engine("arcface-onnx", weights=tmp_path / "absent.onnx")
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingDependencyError, match=r"tessella\[faces\]"):
        face_engine("dlib")
    assert face_engine().name == "hog"
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(MissingDependencyError, match=r"tessella\[faces\]"):
        face_engine()


def test_dlib_takes_a_folder_of_weights(dlib_engine: FaceEngine, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="shape_predictor_5_face_landmarks"):
        face_engine("dlib", weights=tmp_path)
    (tmp_path / "shape_predictor_5_face_landmarks.dat").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="cannot be read by dlib"):
        face_engine("dlib", weights=tmp_path)


def test_dlib_and_marked_landmarks_align_alike(dlib_engine: FaceEngine, astronaut: Pixels) -> None:
    located = dlib_engine.locate(astronaut, UNMARKED)
    assert located is not None
    marked = face_transform(Located(BOX, LANDMARKS, "annotation", (512, 512)))
    found = face_transform(located)
    assert marked is not None
    assert found is not None
    places = [np.array(LANDMARKS) @ m[:, :2].T + m[:, 2] for m in (marked, found)]
    assert np.abs(places[0] - places[1]).max() < 8
