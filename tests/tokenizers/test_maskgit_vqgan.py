"""What is special about MaskGIT's VQGAN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tessella.errors import ConfigError
from tessella.tokenizers.layers.maskgit_network import MaskGITBlock
from tessella.tokenizers.maskgit_vqgan import MaskGITVQGAN, MaskGITVQGANConfig
from tessella.tokenizers.registry import all_presets


def _tiny() -> MaskGITVQGAN:
    torch.manual_seed(0)
    return MaskGITVQGAN(all_presets()["maskgit-vqgan-tiny"][1].config)


def test_full_size() -> None:
    with torch.device("meta"):
        model = MaskGITVQGAN(all_presets()["maskgit-vqgan-f16-1024"][1].config)
    decoder = sum(p.numel() for p in model.decoder.parameters())
    assert round(decoder / 1e6, 2) == 30.48
    assert round(model.quantizer.codebook.numel() / 1e6, 3) == 0.262
    assert model.stride == 16
    decoder_state = model.decoder.state_dict()
    changing = {k.rsplit(".", 2)[0] for k in decoder_state if "nin_shortcut" in k}
    assert changing == {"up.1.block.0", "up.3.block.0"}


def test_the_input_of_a_block_that_changes_its_width_does_not_enter_the_sum() -> None:
    torch.manual_seed(0)
    block = MaskGITBlock(4, 8, norm_groups=4)
    with torch.no_grad():
        block.conv2.weight.zero_()
        assert float(block(torch.randn(1, 4, 5, 5)).abs().max()) == 0
    same = MaskGITBlock(4, 4, norm_groups=4)
    with torch.no_grad():
        same.conv2.weight.zero_()
        x = torch.randn(1, 4, 5, 5)
        assert torch.equal(same(x), x)


def test_code_probabilities_are_a_softmax_of_squared_distances() -> None:
    model = _tiny()
    latents = torch.randn(2, 3, 5, 8)
    found = model.code_probabilities(latents, temperature=0.7).detach().numpy()
    codes = model.quantizer.codebook.detach().double().numpy()
    z = latents.double().numpy()
    distances = ((z[..., None, :] - codes) ** 2).sum(-1)
    weights = np.exp(-(distances - distances.min(-1, keepdims=True)) / 0.7)
    np.testing.assert_allclose(found, weights / weights.sum(-1, keepdims=True), atol=1e-6)


def test_the_weight_of_the_loss_stands_at_the_codebooks_term() -> None:
    model = _tiny().train()
    losses = model(torch.rand(1, 3, 16, 16) * 2 - 1).losses
    torch.testing.assert_close(losses["codebook"], 0.25 * losses["commitment"])


@pytest.mark.parametrize(
    "changes", [{"multipliers": ()}, {"multipliers": (0, 1)}, {"blocks": 0}, {"channels": 100}]
)
def test_impossible_sizes_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="given"):
        MaskGITVQGANConfig(**changes)  # type: ignore[arg-type]
