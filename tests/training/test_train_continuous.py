"""A run of a continuous tokenizer: its loss falls, and its prior fits its files."""

from __future__ import annotations

from pathlib import Path

from tessella.codecs.entropy.prior import PRIOR_FILE, Prior
from tessella.codecs.files import codec_of
from tessella.codecs.token_coding import PackOptions
from tessella.training import train


def test_a_run_ends_with_a_model_that_codes_pictures(photos: Path, quick: list[str]) -> None:
    settings = {"model": {"family": "autoencoder_kl", "preset": "kl-tiny"}}
    folder = train(settings, [*quick, "trainer.steps=3", "trainer.val_every=3"])
    codec = codec_of(folder)
    channels = codec.tokenizer.config.latent_channels
    assert Prior.load(folder / PRIOR_FILE).range_bits(0, channels) is not None
    tokens = codec.encode(photos / "0.jpg")
    coded = codec.pack(tokens)
    assert len(coded) < len(codec.pack(tokens, PackOptions(profile=0)))
    error = (codec.unpack(coded).tokens.levels[0] - tokens.levels[0]).abs().max()
    assert float(error) <= 2.0 ** -(codec.tokenizer.latent_exponent + 1)
