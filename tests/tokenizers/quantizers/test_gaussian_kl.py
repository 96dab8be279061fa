from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers import GaussianKL, Quantizer


def reference(z: torch.Tensor) -> torch.Tensor:
    mean, log_variance = z.double().chunk(2, dim=-1)
    normal = Normal(mean, torch.exp(log_variance / 2))
    return kl_divergence(normal, Normal(torch.zeros_like(mean), torch.ones_like(mean)))


def test_kl_agrees_with_torch_distributions(generator):
    z = torch.randn(3, 4, 5, 8, generator=generator)
    summed = GaussianKL(4, kl_weight=0.5)(z)
    expected = reference(z).sum() / 3
    assert summed.stats["kl"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert summed.losses["kl"].item() == pytest.approx(expected.item() / 2, rel=1e-5)
    averaged = GaussianKL(4, reduction="mean")(z)
    assert averaged.stats["kl"].item() == pytest.approx(reference(z).mean().item(), rel=1e-5)


def test_tokens_are_continuous():
    quantizer = GaussianKL(4)
    assert quantizer.is_continuous and quantizer.vocab_sizes == ()
    assert not isinstance(quantizer, Quantizer)
    assert (quantizer.input_dim, quantizer.dim, quantizer.bits_per_token) == (8, 4, 128)
    out = quantizer.eval()(torch.randn(2, 3, 8))
    assert out.z_q.shape == (2, 3, 4) and out.indices.shape == (2, 3, 0) and out.losses == {}


def test_evaluation_gives_the_mean_and_training_samples(generator):
    mean = torch.full((20_000, 1), 2.0)
    z = torch.cat([mean, torch.full_like(mean, 2 * torch.log(torch.tensor(3.0)).item())], dim=1)
    quantizer = GaussianKL(1)
    drawn = quantizer(z, generator=generator).z_q
    assert drawn.mean().item() == pytest.approx(2, abs=0.1)
    assert drawn.std().item() == pytest.approx(3, abs=0.1)
    again = quantizer(z, generator=torch.Generator().manual_seed(0)).z_q
    assert torch.equal(drawn, again)
    assert torch.equal(quantizer.eval()(z).z_q, mean)


def test_extreme_variances_stay_finite():
    z = torch.tensor([[0.0, 1e4], [0.0, -1e4]], requires_grad=True)
    out = GaussianKL(1)(z)
    out.loss.backward()
    assert torch.isfinite(out.z_q).all() and torch.isfinite(z.grad).all()


def test_wrong_width_and_reduction_are_refused():
    with pytest.raises(ShapeError, match=r"\(\.\.\., 8\)"):
        GaussianKL(4)(torch.randn(2, 4))
    with pytest.raises(ConfigError, match="'sum' or 'mean'"):
        GaussianKL(4, reduction="max")
