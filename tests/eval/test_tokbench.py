"""Geometry and formulas of TokBench at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tessella.errors import ShapeError
from tessella.eval.metrics import FaceScores, WordScores
from tessella.eval.tokbench import (
    align_face,
    bucket_means,
    crop_word,
    face_similarity,
    fit_word,
    levenshtein,
    pad,
    place,
    restore,
    similarity_transform,
    text_similarity,
)

WORDS = st.text(alphabet="abc", max_size=6)


def recursive(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        recursive(a[1:], b) + 1,
        recursive(a, b[1:]) + 1,
        recursive(a[1:], b[1:]) + (a[0] != b[0]),
    )


@given(WORDS.filter(lambda w: len(w) < 5), WORDS.filter(lambda w: len(w) < 5))
def test_edits_are_the_fewest(a: str, b: str) -> None:
    assert levenshtein(a, b) == levenshtein(b, a) == recursive(a, b)
    assert 0 <= text_similarity(a, b) <= 1


def test_nothing_read_of_nothing_is_right() -> None:
    assert text_similarity("", "") == 1


def test_buckets_are_half_open_and_weigh_the_same() -> None:
    ratios = [0.019, 0.02, 0.03, 0.039, 0.04, 0.999, 1.0]
    scores = [9.0, 1.0, 0.0, 1.0, 0.25, 0.75, 9.0]
    found = bucket_means(ratios, scores, (0.02, 0.03, 0.04))
    assert found.counts == (1, 2, 2)
    assert found.means == (1.0, 0.5, 0.5)
    assert found.mean == pytest.approx(2 / 3)
    empty = bucket_means([0.5], [1.0], (0.02, 0.03, 0.04))
    assert math.isnan(empty.mean)
    with pytest.raises(ShapeError, match="one each"):
        bucket_means([0.5], [1.0, 2.0], (0.02, 0.03, 0.04))


def test_boxes_are_clamped_to_the_picture() -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    word = crop_word(picture, (-3.5, 1.9, 3.2, 99))
    assert word is not None
    assert np.array_equal(word, picture[1:5, 0:3])
    assert crop_word(picture, (4, 2, 4.9, 5)) is None
    assert crop_word(picture, (-9, 0, -2, 5)) is None
    assert fit_word(word).shape == (3, 32, 128)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([96, 256, 1000]))
def test_pictures_fit_on_their_canvas(width: int, height: int, side: int) -> None:
    placement = place((width, height), side)
    assert max(placement.scaled) == side
    for start, length in zip(placement.position, placement.scaled, strict=True):
        assert 0 <= start <= start + length <= side
        assert length >= 1


def test_a_picture_comes_back_from_its_canvas() -> None:
    ramp = np.linspace(0, 255, 90)[None, :, None] * np.ones((50, 1, 3))
    picture = Image.fromarray(ramp.astype(np.uint8))
    canvas, placement = pad(picture, 128)
    assert canvas.size == (128, 128)
    back = restore(canvas, placement)
    assert back.size == picture.size
    assert np.abs(np.array(back).astype(int) - np.array(picture)).mean() < 2
    with pytest.raises(ShapeError, match="at least 1"):
        place((0, 4), 128)


def test_faces_are_aligned_whatever_their_pose() -> None:
    landmarks = np.array([[38, 52], [74, 51], [56, 72], [42, 92], [71, 92]], dtype=float)
    matrix = similarity_transform(landmarks)
    turn = np.array([[0.0, -1.5], [1.5, 0.0]])
    moved = similarity_transform(landmarks @ turn.T + [5, 9])
    np.testing.assert_allclose(moved[:, :2] @ turn, matrix[:, :2], atol=1e-9)
    identity = np.array([[1.0, 0, 0], [0, 1, 0]])
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(align_face(picture, identity, 20), picture)
    half = align_face(picture, np.array([[1.0, 0, 0.5], [0, 1, 0]]), 20)
    expected = np.rint(picture[:, :19].astype(float) / 2 + picture[:, 1:].astype(float) / 2)
    assert np.array_equal(half[:, 1:], expected)
    with pytest.raises(ShapeError, match="\\(5, 2\\)"):
        similarity_transform(landmarks[:3])


def test_similarity_of_faces() -> None:
    a = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = np.array([[2.0, 0.0], [-1.0, -1.0], [1.0, 0.0]])
    assert face_similarity(a, b) == pytest.approx([1, -1, 0])
    metric = FaceScores("image/1024")
    metric.update(torch.from_numpy(a), torch.from_numpy(b), [0.03, 0.06, 0.2])
    assert metric.compute().similarity.means == pytest.approx((1, -1, 0))
    with pytest.raises(ShapeError, match="one each"):
        metric.update(torch.from_numpy(a), torch.from_numpy(b), [0.1])


def test_scores_of_words() -> None:
    metric = WordScores("image/256")
    metric.update(["Hello", "kills"], ["hello", "kills"], [0.025, 0.035])
    found = metric.compute()
    assert found.accuracy.means[:2] == (0.0, 1.0)
    assert found.similarity.means[0] == pytest.approx(0.8)
    assert found.overall_accuracy == 0.5
    with pytest.raises(ShapeError, match="one each"):
        metric.update(["a"], ["a", "b"], [0.1])
    with pytest.raises(ShapeError, match="image/512"):
        WordScores("image/300")
