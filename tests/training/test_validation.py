from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tessella.data import PictureSet
from tessella.images import load_image, to_pixels
from tessella.tokenizers.base import Tokenizer
from tessella.tokenizers.registry import all_presets
from tessella.tokens import LevelLayout, TokenLayout
from tessella.training.validation import (
    central_part,
    picture_grid,
    spread,
    truncations,
    validate,
)


@pytest.fixture(scope="module")
def model() -> Tokenizer:
    family, preset = all_presets()["progressive-gq-tiny"]
    torch.manual_seed(0)
    return family.model_class(preset.config)


def test_truncations_double_up_to_everything() -> None:
    def labels(*levels: LevelLayout) -> list[str]:
        return [cut.label for cut in truncations(TokenLayout(levels, (64, 64)))]

    groups = LevelLayout((8, 8), (16,) * 6, ordered="groups")
    assert labels(groups) == ["q1", "q2", "q4", "q6"]
    assert labels(LevelLayout((64,), (16,), ordered="length")) == ["n4", "n8", "n16", "n32", "n64"]
    assert labels(LevelLayout((8, 8), (16,))) == ["all"]
    assert labels(groups, groups) == ["all"]


def test_rows_equal_scikit_image(model: Tokenizer, photos: Path) -> None:
    pictures = PictureSet([str(photos)])
    rows = validate(model, pictures, [0, 3], side=500, with_ms_ssim=True)
    assert [row.keep for row in rows] == ["q1", "q2", "q3"]
    for groups, row in enumerate(rows, start=1):
        pairs = []
        for i in (0, 3):
            image = load_image(photos / f"{i}.jpg")
            output = model.decode(model.encode(image).truncate(groups=groups))
            pairs.append((to_pixels(image), to_pixels(output)))
        decibels = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]
        similarities = [
            structural_similarity(
                a, b, channel_axis=2, data_range=255, gaussian_weights=True,
                sigma=1.5, use_sample_covariance=False,
            )
            for a, b in pairs
        ]  # fmt: skip
        assert row.psnr == pytest.approx(np.mean(decibels), abs=1e-6)
        assert row.ssim == pytest.approx(np.mean(similarities), abs=1e-5)
        assert row.ms_ssim is None  # 120 pixels are too few for five scales
        # 4 bits a group and 8x8 patch
        assert row.bpp == pytest.approx(4 * groups / 64)


def test_damaged_pictures_are_left_out_with_a_warning(
    model: Tokenizer, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(photos / "0.jpg", tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xffnothing")
    pictures = PictureSet([str(tmp_path)])
    with caplog.at_level(logging.WARNING):
        rows = validate(model, pictures, [0, 1], side=64)
    assert rows == validate(model, pictures, [0], side=64)
    assert "b.jpg" in caplog.text
    assert validate(model, pictures, [1], side=64) == []


def test_the_grid_shows_originals_and_every_truncation(model: Tokenizer, photos: Path) -> None:
    result = picture_grid(model, PictureSet([str(photos)]), [2, 5], side=96)
    assert result is not None
    labels, grid = result
    assert labels == ["original", "q1", "q2", "q3"]
    assert grid.shape == (2 * 100, 4 * 100, 3)
    original = to_pixels(load_image(photos / "5.jpg"))
    assert np.array_equal(grid[102:198, 2:98], central_part(original, 96))


def test_pictures_are_spread_evenly() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(4, 0) == [0, 1, 2, 3]
    assert spread(0, 5) == []
