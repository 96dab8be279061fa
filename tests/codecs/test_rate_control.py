"""Files that meet a size or a PSNR, against trying every quality there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from tiny_model import photograph, tiny_tokenizer

from tessella.codecs.base import Codec, Prepared, Qualities
from tessella.codecs.classical import Jpeg, Png, WebP
from tessella.codecs.rate_control import compress_to_bytes, compress_to_psnr
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError, TargetError
from tessella.images import Pixels

PIXELS = np.ascontiguousarray(data.astronaut()[40:104, 150:214])


class Noisy(Codec):
    """Files of ``size(quality)`` bytes whose pictures differ by ``error(quality)``."""

    name = "noisy"
    settings = "none"

    def __init__(self, highest: int, *, is_even: bool) -> None:
        self.highest, self.is_even = highest, is_even
        self.tried: set[int] = set()

    @property
    def qualities(self) -> Qualities:
        return Qualities(0, self.highest, self.highest, "an index", is_even=self.is_even)

    @staticmethod
    def size(quality: int) -> int:
        return 500 + 20 * quality + (7 * quality) % 5 + quality**2 // 300

    def prepare(self, picture: Pixels) -> Prepared:
        def compress(quality: int | None) -> bytes:
            assert quality is not None
            self.tried.add(quality)
            return quality.to_bytes(2, "big").ljust(self.size(quality), b"\0")

        return Prepared(compress, self.qualities)

    def decompress(self, data: bytes, *, max_pixels: int | None = None) -> Pixels:
        quality = int.from_bytes(data[:2], "big")
        return np.full_like(PIXELS, 128) + np.uint8(round(60 * math.exp(-quality / 200)))


@pytest.mark.parametrize("limit", [500, 640, 5_000, 12_345, 23_000, 10**6])
def test_interpolation_comes_within_a_few_bytes(limit: int) -> None:
    codec = Noisy(1000, is_even=True)
    found = compress_to_bytes(codec, PIXELS, limit)
    best = max(q for q in range(1001) if codec.size(q) <= limit)
    assert len(found.data) <= limit
    assert found.quality == best or limit - len(found.data) <= 0.002 * limit
    assert len(codec.tried) <= 8


def test_interpolation_finds_a_psnr() -> None:
    codec = Noisy(1000, is_even=True)
    gray = np.full_like(PIXELS, 128)
    for target in (13.0, 20.0, 29.99):
        found = compress_to_psnr(codec, gray, target)
        assert found.psnr is not None and found.psnr >= target
        assert (
            found.psnr <= target + 0.01
            or found.quality == 0
            or (
                peak_signal_noise_ratio(
                    gray, codec.decompress((found.quality - 1).to_bytes(2, "big"))
                )
                < target
            )
        )


@pytest.mark.parametrize("codec", [Jpeg(), WebP()], ids=lambda codec: codec.name)
def test_bytes_are_the_best_that_fit(codec: Codec) -> None:
    sizes = {q: len(codec.compress(PIXELS, q)) for q in range(1, 101)}
    for limit in (min(sizes.values()), 1_500, 4_000):
        found = compress_to_bytes(codec, PIXELS, limit)
        assert found.quality == max(q for q, size in sizes.items() if size <= limit)
        assert found.data == codec.compress(PIXELS, found.quality)


def test_psnr_is_that_of_the_decoded_file_and_no_quality_less_reaches_it() -> None:
    codec = Jpeg()
    values = {
        q: peak_signal_noise_ratio(PIXELS, codec.decompress(codec.compress(PIXELS, q)))
        for q in range(1, 101)
    }
    for target in (20.0, 28.0, 33.3):
        found = compress_to_psnr(codec, PIXELS, target)
        assert found.psnr == pytest.approx(values[found.quality])
        assert values[found.quality] >= target > values[found.quality - 1]
    assert compress_to_psnr(codec, PIXELS, 1.0).quality == 1


def test_what_cannot_be_met_is_told_with_the_nearest() -> None:
    codec = Jpeg()
    smallest = min(len(codec.compress(PIXELS, q)) for q in range(1, 101))
    with pytest.raises(TargetError, match=f"has {smallest} bytes; {smallest - 1} asked for"):
        compress_to_bytes(codec, PIXELS, smallest - 1)
    even = Noisy(9, is_even=True)
    with pytest.raises(TargetError, match="has 500 bytes; 499 asked for"):
        compress_to_bytes(even, PIXELS, 499)
    most = peak_signal_noise_ratio(PIXELS, codec.decompress(codec.compress(PIXELS, 100)))
    with pytest.raises(TargetError, match=f"reaches {most:.2f} dB .* 90 dB asked for"):
        compress_to_psnr(codec, PIXELS, 90)
    with pytest.raises(ConfigError, match="at least 1"):
        compress_to_bytes(codec, PIXELS, 0)
    with pytest.raises(ConfigError, match="nan"):
        compress_to_psnr(codec, PIXELS, math.nan)


def test_lossless_files_reach_any_psnr() -> None:
    assert compress_to_psnr(Png(), PIXELS, 200).psnr == math.inf


def test_tokenizers_choose_how_many_groups() -> None:
    codec = TokenizerCodec(tiny_tokenizer())
    pixels = np.ascontiguousarray(photograph()[:64, :64])
    files = [codec.compress(pixels, keep) for keep in (1, 2, 3)]
    values = [peak_signal_noise_ratio(pixels, codec.decompress(file)) for file in files]
    for keep, (file, value) in enumerate(zip(files, values, strict=True), 1):
        assert compress_to_bytes(codec, pixels, len(file)).data == file
        found = compress_to_psnr(codec, pixels, value - 1e-6)
        assert (found.quality, found.data) == (keep, file)
        assert found.psnr == pytest.approx(value)
