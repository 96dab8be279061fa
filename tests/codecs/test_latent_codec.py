"""Scalar latents as files: sizes, qualities, truncation, odd pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import photograph

from tessella.codecs.container import parse
from tessella.codecs.entropy.latent.network import LatentPriorConfig
from tessella.codecs.entropy.prior import Prior
from tessella.codecs.latent_codec import LatentCodec
from tessella.codecs.token_coding import PackOptions
from tessella.errors import ConfigError, TokenFileError
from tessella.images import from_pixels
from tessella.tokenizers.scalar_latent import ScalarLatentConfig, ScalarLatentTokenizer
from tessella.training.latent.export import integer_model
from tessella.training.latent.model import RatedTokenizer


def _rated() -> RatedTokenizer:
    """A tokenizer that starts from principal components, and its untrained prior."""
    sizes = ScalarLatentConfig(
        widths=(8, 8, 8), blocks=(1, 1, 1), slices=(4, 12), hyper_channels=4, points=3
    )
    prior = LatentPriorConfig(
        slices=(4, 12), hyper_channels=4, features=8, hidden=8, reach=3, points=3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rated = RatedTokenizer(sizes, prior)
    picture = photograph()
    crops = [picture[y : y + 64, x : x + 64] for y in range(0, 256, 64) for x in range(0, 256, 64)]
    rated.initialize(torch.cat([from_pixels(np.ascontiguousarray(crop)) for crop in crops]))
    return rated.eval()


@pytest.fixture(scope="module")
def codec() -> LatentCodec:
    rated = _rated()
    return LatentCodec(rated.tokenizer, Prior({}, latent_model=integer_model(rated)))


def test_files_come_back_and_grow_with_quality(codec: LatentCodec) -> None:
    picture = photograph()[:128, :192]
    sizes, errors = [], []
    for quality in (1, 40, 70, 100):
        tokens = codec.encode(picture, quality=quality)
        data = codec.pack(tokens)
        assert codec.unpack(data).tokens == tokens
        assert data == codec.compress(picture, quality)
        pixels = codec.decompress(data)
        assert np.array_equal(pixels, codec.decode(tokens))
        sizes.append(len(data))
        errors.append(float(np.square(pixels.astype(float) - picture).mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert parse(data).header.profile == 3
    assert len(data) < 0.6 * tokens.bits / 8


def test_prepared_pictures_give_the_same_files(codec: LatentCodec) -> None:
    picture = photograph()[:64, :64]
    prepared = codec.prepare(picture)
    assert prepared.qualities == codec.qualities
    assert prepared.compress(30) == codec.compress(picture, 30)
    assert prepared.compress(None) == codec.compress(picture, 50)


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (65, 64)])
def test_odd_sizes_come_back(codec: LatentCodec, size: tuple[int, int]) -> None:
    picture = np.ascontiguousarray(np.tile(photograph(), (2, 2, 1))[: size[0], : size[1]])
    assert codec.decompress(codec.compress(picture, 60)).shape == picture.shape


def test_tokens_that_are_not_settled_come_back_too(codec: LatentCodec) -> None:
    tokens = codec.tokenizer.encode(from_pixels(photograph()[:64, :64]), quality=80)
    assert codec.unpack(codec.pack(tokens)).tokens == tokens


def test_files_of_several_segments_may_end_early(codec: LatentCodec) -> None:
    tokens = codec.encode(photograph()[:64, :128], quality=70)
    data = codec.pack(tokens, PackOptions(split="parts"))
    assert codec.unpack(data).tokens == tokens
    found = codec.unpack(data[: len(data) - 5])
    assert found.is_truncated
    assert found.tokens == tokens.truncate(levels=3)
    assert codec.decode(found.tokens).shape == (64, 128, 3)


def test_damaged_files_are_refused(codec: LatentCodec) -> None:
    data = bytearray(codec.compress(photograph()[:64, :64], 60))
    data[-7] ^= 1
    with pytest.raises(TokenFileError):
        codec.decompress(bytes(data))


def test_a_prior_is_needed(codec: LatentCodec) -> None:
    with pytest.raises(ConfigError, match="expected a prior file"):
        LatentCodec(codec.tokenizer, None)
    with pytest.raises(ConfigError, match="expected 1 to 100"):
        codec.compress(photograph()[:64, :64], 0)
    assert isinstance(codec.tokenizer, ScalarLatentTokenizer)
