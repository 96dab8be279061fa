from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessella.data import CropDataset, CropSettings, PictureSet, StepSampler, make_loader
from tessella.data.crops import random_crop
from tessella.errors import ConfigError, PictureError

SETTINGS = CropSettings(48, zoom=(0.8, 2.0))


def batches(photos: Path, sampler: StepSampler, workers: int = 0) -> list[torch.Tensor]:
    dataset = CropDataset(PictureSet([str(photos)]), SETTINGS, seed=(3,))
    return [batch.images for batch in make_loader(dataset, sampler, workers=workers)]


def test_crops_do_not_depend_on_workers_or_on_where_a_run_starts(photos: Path) -> None:
    whole = batches(photos, StepSampler(0, 5, 4))
    assert [tuple(images.shape) for images in whole] == [(4, 3, 48, 48)] * 5
    tail = batches(photos, StepSampler(3, 5, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], tail, strict=True))
    by_workers = batches(photos, StepSampler(0, 5, 4), workers=2)
    assert all(torch.equal(a, b) for a, b in zip(whole, by_workers, strict=True))
    assert not torch.equal(whole[0], whole[1])


def test_processes_share_one_batch(photos: Path) -> None:
    whole = batches(photos, StepSampler(2, 3, 6))[0]
    parts = [batches(photos, StepSampler(2, 3, 6, rank=r, world=3))[0] for r in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_the_loader_leaves_the_random_state_of_the_caller_alone(photos: Path) -> None:
    before = torch.get_rng_state()
    batches(photos, StepSampler(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_zoom_a_crop_is_a_window_of_the_picture(photos: Path) -> None:
    picture = np.asarray(Image.open(photos / "02.png"))

    def is_window(crop: np.ndarray) -> bool:
        corners = np.argwhere((picture == crop[0, 0]).all(axis=2))
        return any(np.array_equal(picture[y : y + 32, x : x + 32], crop) for y, x in corners)

    rng = np.random.default_rng(0)
    mirrored = 0
    for _ in range(40):
        crop = random_crop(picture, CropSettings(32), rng)
        hits = [is_window(c) for c in (crop, crop[:, ::-1])]
        assert any(hits)
        mirrored += not hits[0]
    assert 8 <= mirrored <= 32  # half of 40: outside once in 10 000 times


@pytest.mark.parametrize("zoom", [0.5, 2.0, 3.0])
def test_zoom_enlarges(zoom: float) -> None:
    ramp = np.repeat(np.arange(0, 200, dtype=np.uint8)[None, :, None], 150, axis=0)
    picture = np.repeat(ramp, 3, axis=2)
    crop = random_crop(
        picture, CropSettings(60, (zoom, zoom), flip=False), np.random.default_rng(1)
    )
    row = crop[30, 5:-5, 0].astype(float)
    slope = np.polyfit(np.arange(len(row)), row, 1)[0]
    assert slope == pytest.approx(1 / zoom, rel=0.03)


def test_pictures_smaller_than_a_crop_are_enlarged_whole() -> None:
    picture = np.zeros((20, 20, 3), dtype=np.uint8)
    picture[:, 10:] = 200
    crop = random_crop(picture, CropSettings(80, flip=False), np.random.default_rng(0))
    assert crop.shape == (80, 80, 3)
    assert np.abs(crop[:, :36].astype(int)).max() <= 12
    assert np.abs(crop[:, 44:].astype(int) - 200).max() <= 20


def test_a_damaged_picture_is_replaced_and_named(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "00.png", tmp_path / "good.png")
    content = (photos / "01.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    dataset = CropDataset(PictureSet([str(tmp_path)]), SETTINGS, seed=(0,))
    (batch,) = make_loader(dataset, StepSampler(0, 1, 16))
    assert batch.images.shape[0] == 16
    assert batch.problems
    assert all("cut.png" in problem for problem in batch.problems)


def test_nothing_but_damaged_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    dataset = CropDataset(PictureSet([str(tmp_path)]), SETTINGS, seed=(0,))
    with pytest.raises(PictureError, match="in a row"):
        dataset[0, 0]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch=5 given for 2"):
        StepSampler(0, 1, 5, world=2)
