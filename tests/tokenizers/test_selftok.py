"""What is special about Selftok: tokens ordered by time, parts that may be missing."""

from __future__ import annotations

import pytest
import torch

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from tessella.tokenizers.registry import all_presets
from tessella.tokenizers.selftok import Selftok, SelftokConfig
from tessella.tokenizers.time_stages import last_visible


def _model(name: str = "selftok-tiny") -> Selftok:
    torch.manual_seed(0)
    return Selftok(all_presets()[name][1].config)


def test_full_size() -> None:
    with torch.device("meta"):
        model = _model("selftok-512")
    assert model.config.tokens == 512
    assert model.decoder is not None
    assert model.autoencoder is not None
    # Stable Diffusion 3's transformer and autoencoder have 2.0 billion and 84 million
    assert 1.9e9 < sum(p.numel() for p in model.decoder.parameters()) < 2.1e9
    assert 83e6 < sum(p.numel() for p in model.autoencoder.parameters()) < 85e6


def test_more_tokens_count_at_noisier_times() -> None:
    stages, counts = (200, 400, 600, 800, 1000), (192, 184, 72, 48, 16)
    last = last_visible(torch.arange(0, 1001), stages, counts)
    assert int(last[0]) == 0
    assert [int(last[t]) for t in (200, 400, 600, 800, 1000)] == [192, 376, 448, 496, 511]
    assert bool((last[1:] >= last[:-1]).all())


def test_hidden_tokens_do_not_change_the_velocity() -> None:
    model = _model().eval()
    assert model.decoder is not None
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([0.3])
    tokens = torch.randn(1, 8, 4)
    visible = torch.arange(8)[None] < 3
    changed = tokens.clone()
    changed[:, 3:] += 1
    with torch.inference_mode():
        first = model.decoder(x, t, tokens, visible)
        assert torch.allclose(first, model.decoder(x, t, changed, visible), atol=1e-6)
        changed[:, 0] += 1
        assert not torch.allclose(first, model.decoder(x, t, changed, visible), atol=1e-4)


def test_decoding_follows_the_generator_and_is_fixed_without() -> None:
    model = _model()
    tokens = model.encode(torch.zeros(1, 3, 16, 16))

    def decode(seed: int) -> torch.Tensor:
        return model.decode(tokens, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(model.decode(tokens), model.decode(tokens))
    assert torch.equal(decode(1), decode(1))
    assert not torch.equal(decode(1), decode(2))


def test_an_autoencoder_joins_an_encoder() -> None:
    config = SelftokConfig(
        tokens_per_stage=(3, 1),
        stages=(500, 1000),
        latent_channels=4,
        width=16,
        query_width=16,
        depth=1,
        codebook_size=16,
        heads=2,
        query_heads=2,
    )
    torch.manual_seed(0)
    alone = Selftok(config).eval()
    autoencoder = AutoencoderKL(AutoencoderKLConfig(widths=(4, 8), blocks=1, norm_groups=4)).eval()
    joined = alone.with_autoencoder(autoencoder)
    images = torch.rand(1, 3, 16, 24) * 2 - 1
    tokens = joined.encode(images)
    with torch.inference_mode():
        latents = autoencoder.standardised(autoencoder.images_to_latents(images))
    again = alone.encode_latents(latents.permute(0, 3, 1, 2))
    assert torch.equal(tokens.levels[0], again.levels[0])
    with pytest.raises(ConfigError, match="no decoder"):
        joined.decode(tokens)


def test_pictures_beyond_the_table_of_positions_are_refused() -> None:
    with torch.device("meta"):
        model = Selftok(SelftokConfig(depth=1))
    with pytest.raises(ShapeError, match="at most 1024"):
        model.layout(1040, 64)


def test_stages_must_rise_to_a_thousand() -> None:
    with pytest.raises(ConfigError, match="the last one 1000"):
        SelftokConfig(stages=(200, 400, 600, 800, 900))
