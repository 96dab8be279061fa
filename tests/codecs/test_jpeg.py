"""JPEG of at most so many bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from skimage import data

from tessella.codecs.jpeg import encode_at_most, encode_jpeg


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(data.astronaut()[:128, :160])


@pytest.mark.parametrize("limit", [900, 1500, 3000, 6000, 12_000])
def test_it_is_the_best_that_fits(image: Image.Image, limit: int) -> None:
    chosen = encode_at_most(image, limit)
    assert len(chosen) <= limit
    # by trying every quality there is
    sizes = [len(encode_jpeg(image, quality)) for quality in range(1, 101)]
    assert len(chosen) == max(size for size in sizes if size <= limit)


def test_smallest_file_where_nothing_fits(image: Image.Image) -> None:
    assert encode_at_most(image, 10) == encode_jpeg(image, 1)


def test_files_are_optimized_baseline_with_halved_chroma(image: Image.Image) -> None:
    read = Image.open(io.BytesIO(encode_jpeg(image, 75)))
    assert JpegImagePlugin.get_sampling(read) == 2  # 4:2:0
    assert "progressive" not in read.info
    plain = io.BytesIO()
    image.save(plain, "JPEG", quality=75)
    assert len(encode_jpeg(image, 75)) < len(plain.getvalue())
    assert np.abs(np.array(read).astype(float) - np.array(image)).mean() < 8
