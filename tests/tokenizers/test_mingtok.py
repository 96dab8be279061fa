"""What is special about MingTok: causal features, a class token that pictures do not need."""

from __future__ import annotations

import pytest
import torch

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.layers.cached_transformer import Transformer
from tessella.tokenizers.mingtok import MingTok, MingTokConfig
from tessella.tokenizers.registry import all_presets


def _tiny() -> MingTok:
    torch.manual_seed(0)
    return MingTok(all_presets()["mingtok-tiny"][1].config).eval()


def test_full_size() -> None:
    with torch.device("meta"):
        model = MingTok(MingTokConfig())
    hidden = 8 * ((int(4 * 768 * 2 / 3) + 7) // 8)
    block = 4 * 768**2 + 4 * 768 + 4 * 768 + 3 * 768 * hidden + 2 * hidden + 768
    outside = 3 * 32**2 * 768 + 768 + 768 + 257 * 768 + 2 * 768 + 768 * 32 + 32
    encoder = sum(p.numel() for p in model.low_level_encoder.parameters())
    assert encoder == 12 * block + outside
    whole = sum(p.numel() for p in model.parameters())
    assert 690e6 < whole < 700e6


def test_later_tokens_do_not_change_earlier_features() -> None:
    model = _tiny()
    latents = torch.randn(1, 9, 8)
    changed = latents.clone()
    changed[:, 5:] += 1
    with torch.inference_mode():
        a, b = model.semantic_decoder(latents), model.semantic_decoder(changed)
    assert torch.equal(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:])


@pytest.mark.parametrize("sizes", [[1] * 9, [4, 5], [3, 1, 5]])
def test_pieces_of_any_size_give_the_whole(sizes: list[int]) -> None:
    model = _tiny()
    values = torch.randn(2, 9, 8)
    with torch.inference_mode():
        whole = model.semantic_decoder(model.unstandardised(values))
    pieces = torch.cat(list(model.semantic_steps(values.split(sizes, dim=1))), dim=1)
    assert torch.allclose(pieces, whole, atol=1e-5)


def test_a_cache_needs_causal_blocks() -> None:
    full = Transformer(16, 1, head_dim=8)
    with pytest.raises(ShapeError, match="causal"):
        full(torch.zeros(1, 2, 16), full.new_cache())


def test_widths_must_fit_the_latents() -> None:
    with pytest.raises(ConfigError, match="divisor"):
        MingTokConfig(latent_channels=36)
    with pytest.raises(ConfigError, match="multiple of the next"):
        MingTokConfig(patch=24)
