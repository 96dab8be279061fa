"""Engines on photographs: they tell people apart, and scores fall with damage."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tessella.errors import MissingDependencyError
from tessella.eval.tokbench.face_annotations import FacePicture, read_face_set
from tessella.eval.tokbench.face_engines import Embedding, FaceEngine, face_engine
from tessella.images import decode_rgb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

QUALITIES = (50, 20, 10, 5, 2)


@pytest.fixture(scope="module")
def pictures(data_dir: Path) -> list[FacePicture]:
    """Four photographs a person at most."""
    folder = data_dir / "faces"
    if not folder.is_dir():
        pytest.skip("no photographs of faces; give their folder by --data")
    found = read_face_set(folder)
    people: dict[str, list[FacePicture]] = {}
    for picture in found:
        people.setdefault(picture.faces[0].identity, []).append(picture)
    return [picture for several in people.values() for picture in several[:4]]


@pytest.fixture(scope="module", params=["dlib", "hog"])
def engine(request: pytest.FixtureRequest) -> FaceEngine:
    try:
        return face_engine(request.param)
    except MissingDependencyError as error:
        pytest.skip(str(error))


def embedded(engine: FaceEngine, picture: FacePicture, quality: int | None = None) -> Embedding:
    pixels = decode_rgb(picture.path)
    located = engine.locate(pixels, picture.faces[0])
    assert located is not None
    if quality is not None:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        pixels = decode_rgb(stream.getvalue())
    return engine.embed(pixels, located)


def separation(same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """Return how often a pair of one person scores above a pair of two (area under the ROC)."""
    ordered = np.sort(different)
    below = np.searchsorted(ordered, same, side="left")
    not_above = np.searchsorted(ordered, same, side="right")
    return float((below + not_above).mean() / 2 / len(ordered))


def test_people_are_told_apart(engine: FaceEngine, pictures: list[FacePicture]) -> None:
    vectors = [embedded(engine, picture) for picture in pictures]
    people = np.array([picture.faces[0].identity for picture in pictures])
    is_colour = np.char.startswith(people, "c")
    first, second = np.triu_indices(len(people), 1)
    pairs = zip(first, second, strict=True)
    scores = np.array([engine.similarity(vectors[i], vectors[j]) for i, j in pairs])
    is_same = people[first] == people[second]
    least = 0.95 if engine.name == "dlib" else 0.5  # gradients describe drawing, not people
    for chosen in (is_colour, ~is_colour, is_colour | True):
        inside = chosen[first] & chosen[second]
        assert separation(scores[inside & is_same], scores[inside & ~is_same]) >= least


def test_scores_fall_with_compression(engine: FaceEngine, pictures: list[FacePicture]) -> None:
    some = pictures[::16]
    originals = [embedded(engine, picture) for picture in some]
    means = [
        np.mean(
            [
                engine.similarity(original, embedded(engine, picture, quality))
                for original, picture in zip(originals, some, strict=True)
            ]
        )
        for quality in QUALITIES
    ]
    assert 1 > means[0] > means[1] > means[2] > means[3] > means[4]
    again = [embedded(engine, picture) for picture in some[:3]]
    assert [
        engine.similarity(a, b) for a, b in zip(originals[:3], again, strict=True)
    ] == pytest.approx([1] * 3)
