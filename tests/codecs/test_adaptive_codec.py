"""Groups where they pay: files of a tokenizer whose positions keep unlike numbers of groups."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio
from tiny_model import photograph, tiny_tokenizer

from tessella.codecs.adaptive_codec import AdaptiveCodec
from tessella.codecs.code_lengths import code_lengths
from tessella.codecs.entropy.calibrate import Calibration, calibrate
from tessella.codecs.rate_control import compress_to_bytes, compress_to_psnr
from tessella.codecs.tokenizer_codec import TokenizerCodec
from tessella.errors import ConfigError, ShapeError
from tessella.images import from_pixels
from tessella.tokenizers.progressive_gq import ProgressiveGQ
from tessella.tokens import LevelLayout, TokenLayout, Tokens

PIXELS = np.ascontiguousarray(photograph()[:171, 100:350])


@cache
def codec() -> TokenizerCodec:
    model = tiny_tokenizer()
    tokens = model.encode(from_pixels(photograph()))
    return TokenizerCodec(model, calibrate([tokens], Calibration(has_bit_model=False)))


def psnr(data: bytes) -> float:
    return float(peak_signal_noise_ratio(PIXELS, codec().decompress(data)))


def test_the_lowest_quality_is_one_group_everywhere_and_more_is_better() -> None:
    prepared = AdaptiveCodec(codec()).prepare(PIXELS)
    files = [prepared.compress(quality) for quality in (0, 250, 500, 750, 1000)]
    assert files[0] == codec().compress(PIXELS, 1)
    sizes = [len(file) for file in files]
    assert sizes == sorted(sizes)
    values = [psnr(file) for file in files]
    assert values == sorted(values)
    assert prepared.compress(None) == files[-1]
    assert values[-1] > psnr(codec().compress(PIXELS, 3)) - 0.1


@pytest.mark.parametrize("tile", [1, 2, 4])
def test_at_equal_bytes_it_beats_the_same_number_everywhere(tile: int) -> None:
    even = codec().compress(PIXELS, 2)
    found = compress_to_bytes(AdaptiveCodec(codec(), tile=tile), PIXELS, len(even))
    assert len(found.data) <= len(even)
    assert psnr(found.data) > psnr(even)
    counts = codec().unpack(found.data).tokens.group_counts()
    assert counts.min() < counts.max()


def test_psnr_is_met_with_fewer_bytes() -> None:
    even = codec().compress(PIXELS, 2)
    target = psnr(even)
    found = compress_to_psnr(AdaptiveCodec(codec()), PIXELS, target)
    assert found.psnr == pytest.approx(psnr(found.data))
    assert target <= psnr(found.data) <= target + 0.05
    assert len(found.data) < len(even)


def test_what_it_is_called() -> None:
    adaptive = AdaptiveCodec(codec(), tile=4)
    assert adaptive.name == f"{codec().name}+adaptive"
    assert "tiles of 4x4 positions" in adaptive.settings
    with pytest.raises(ConfigError, match="no quality 1001"):
        adaptive.compress(PIXELS, 1001)


def test_tokenizers_of_even_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressiveGQ, "decodes_ragged", False)
    with pytest.raises(ConfigError, match="choose one rate for all"):
        AdaptiveCodec(codec())


def test_code_lengths_of_histograms_are_minus_log2_of_frequencies() -> None:
    tokens = codec().encode(PIXELS)
    prior = codec().space.prior
    assert prior is not None
    lengths = code_lengths(tokens, prior)
    assert lengths.shape == (22, 32, 3)
    values = tokens.levels[0][0].numpy()
    for group in range(3):
        counts = prior.histogram(0, group, 16)
        shares = counts / counts.sum()
        expected = -np.log2(np.maximum(shares, 1e-4))[values[..., group]]
        seen = shares[values[..., group]] > 0.001
        np.testing.assert_allclose(lengths[..., group][seen], expected[seen], atol=0.03)
    assert (code_lengths(tokens, None) == 4).all()
    layout = TokenLayout((LevelLayout((2, 2), (4,)),) * 2, (16, 16))
    level = tokens.levels[0].new_zeros(1, 2, 2, 1)
    with pytest.raises(ShapeError, match="one discrete level"):
        code_lengths(Tokens((level, level), layout), None)
