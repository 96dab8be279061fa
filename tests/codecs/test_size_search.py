"""The quality that meets a number of bytes, against trying every quality there is."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data
from tiny_model import photograph, tiny_tokenizer

from tessella.codecs.base import Codec, Prepared, Qualities
from tessella.codecs.classical import Jpeg, Png, WebP, classical_codecs
from tessella.codecs.size_search import SizeSearch, compress_within
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.images import Pixels


class Sizes(Codec):
    """A codec whose files have the given sizes, for qualities from 3 on."""

    name = "sizes"
    settings = "none"

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.calls = 0

    @property
    def qualities(self) -> Qualities:
        return Qualities(3, 2 + len(self.sizes), 3, "an index")

    def prepare(self, picture: Pixels) -> Prepared:
        def compress(quality: int | None) -> bytes:
            self.calls += 1
            return bytes(self.sizes[(quality or 3) - 3])

        return Prepared(compress, self.qualities)

    def decompress(self, data: bytes, *, max_pixels: int | None = None) -> Pixels:
        raise NotImplementedError


PICTURE = np.zeros((1, 1, 3), np.uint8)


@pytest.mark.parametrize(
    "sizes",
    [
        [7],
        [3, 5, 9, 12, 20],
        [5, 5, 5, 9, 9, 12],
        [10, 9, 14, 13, 20, 19, 30, 28, 40, 39],  # every other step goes down
        [12, 11, 10, 15, 13, 12, 30, 40],
    ],
)
def test_it_is_the_highest_quality_that_fits(sizes: list[int]) -> None:
    search = SizeSearch(Sizes(sizes), PICTURE)
    for limit in range(50):
        found = search.at_most(limit)
        fitting = [3 + i for i, size in enumerate(sizes) if size <= limit]
        if fitting:
            assert (found.quality, found.fits) == (max(fitting), True)
        else:
            assert (len(found.data), found.fits) == (min(sizes), False)
        assert len(found.data) == sizes[found.quality - 3]
        assert found.limit == limit


def test_few_files_are_written() -> None:
    codec = Sizes(list(range(10, 1210)))
    search = SizeSearch(codec, PICTURE)
    search.at_most(700)
    assert codec.calls <= 11 + 4
    calls = codec.calls
    assert search.at_most(700).quality == 693
    assert codec.calls == calls


@pytest.mark.parametrize("codec", [Jpeg(), WebP()], ids=lambda codec: codec.name)
def test_it_is_the_best_of_all_qualities(codec: Codec) -> None:
    pixels = np.ascontiguousarray(data.astronaut()[40:104, 150:214])
    search = SizeSearch(codec, pixels)
    qualities = range(codec.qualities.lowest, codec.qualities.highest + 1)
    sizes = {quality: len(search.at(quality)) for quality in qualities}
    for limit in range(min(sizes.values()), max(sizes.values()) + 100, 97):
        found = search.at_most(limit)
        assert found.fits
        assert found.quality == max(quality for quality in sizes if sizes[quality] <= limit)


@pytest.mark.parametrize("name", classical_codecs())
def test_budgets_are_met_and_used(name: str) -> None:
    codec = classical_codecs()[name]
    if codec.missing:
        pytest.skip(codec.missing)
    pixels = np.ascontiguousarray(data.coffee()[120:216, 200:296])
    search = SizeSearch(codec, pixels)
    qualities = codec.qualities
    coarse = sorted({qualities.lowest, *range(10, qualities.highest + 1, 15)} - {0})
    coarse = coarse[:8] if not codec.is_lossless else [100]
    coarse_sizes = [len(search.at(quality)) for quality in coarse]
    for limit in np.geomspace(min(coarse_sizes), 15_000, 9).astype(int).tolist():
        found = search.at_most(limit)
        assert found.fits
        assert len(found.data) <= limit
        # no quality of a coarse table comes nearer
        assert found.quality >= max(
            q for q, size in zip(coarse, coarse_sizes, strict=True) if size <= limit
        )
    assert search.at_most(10**9).quality == qualities.highest
    tiny = search.at_most(10)
    assert not tiny.fits
    assert len(tiny.data) <= min(coarse_sizes)
    assert codec.decompress(tiny.data).shape == pixels.shape


def test_lossless_files_fit_or_not() -> None:
    pixels = np.ascontiguousarray(data.coffee()[:32, :32])
    size = len(Png().compress(pixels))
    assert compress_within(Png(), pixels, size).fits
    assert not compress_within(Png(), pixels, size - 1).fits


def test_tokenizers_are_searched_too() -> None:
    codec = TokenizerCodec(tiny_tokenizer())
    pixels = np.ascontiguousarray(photograph()[:64, :64])
    sizes = [len(codec.compress(pixels, keep)) for keep in (1, 2, 3)]
    assert codec.qualities == Qualities(1, 3, 3, "how many of 3 groups are kept")
    for keep, size in enumerate(sizes, 1):
        found = compress_within(codec, pixels, size)
        assert (found.quality, found.fits) == (keep, True)
        assert found.data == codec.compress(pixels, keep)
    assert not compress_within(codec, pixels, sizes[0] - 1).fits
