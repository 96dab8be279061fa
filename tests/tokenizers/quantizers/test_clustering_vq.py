"""Codes that follow the vectors, against plain NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers import ClusteringVQ


def test_updates_follow_the_recurrence_of_the_paper(generator):
    quantizer = ClusteringVQ(3, 6, decay=0.9)
    table = quantizer.codebook.detach().double().numpy().copy()
    usage = np.zeros(6)
    for _ in range(5):
        z = torch.randn(20, 3, generator=generator)
        out = quantizer(z)
        x = z.double().numpy()
        distances = ((x[:, None] - table[None]) ** 2).sum(-1)
        chosen = distances.argmin(1)
        assert out.indices[:, 0].tolist() == chosen.tolist()
        np.testing.assert_allclose(out.z_q.detach().numpy(), table[chosen], atol=1e-5)
        for k in range(6):
            usage[k] = 0.9 * usage[k] + 0.1 * (chosen == k).mean()
            pull = np.exp(-10 * 6 * usage[k] / 0.1 - 1e-3)
            table[k] = (1 - pull) * table[k] + pull * x[distances[:, k].argmin()]
        np.testing.assert_allclose(quantizer.usage.numpy(), usage, atol=1e-6)
        np.testing.assert_allclose(quantizer.codebook.detach().numpy(), table, atol=1e-5)


def test_codes_that_are_used_evenly_stay_where_they_are():
    quantizer = ClusteringVQ(1, 4)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.arange(4.0).view(4, 1))
        quantizer.usage.fill_(0.25)
    before = quantizer.codebook.detach().clone()
    quantizer(torch.arange(4.0).repeat(5).view(20, 1) + 0.1)
    assert torch.equal(quantizer.codebook, before)


def test_unused_codes_land_on_the_vectors_that_are_nearest(generator):
    quantizer = ClusteringVQ(2, 32)
    with torch.no_grad():
        quantizer.codebook.copy_(10 * torch.randn(32, 2, generator=generator))
    before = quantizer.codebook.detach().clone()
    z = torch.randn(200, 2, generator=generator)
    used = set(quantizer(z).indices.flatten().tolist())
    unused = [k for k in range(32) if k not in used]
    assert len(unused) > 10
    distances = torch.cdist(before[unused], z)
    nearest = z[distances.argmin(dim=1)]
    moved = quantizer.codebook.detach()[unused]
    assert bool(((moved - nearest).norm(dim=1) <= 1.001e-3 * distances.min(dim=1).values).all())
    was = torch.cdist(z, before).amin(dim=1).square().mean()
    now = torch.cdist(z, quantizer.codebook.detach()).amin(dim=1).square().mean()
    assert now < 0.5 * was


def test_gradients_of_a_step_are_those_before_its_update(generator):
    quantizer = ClusteringVQ(3, 5)
    z = torch.randn(8, 3, generator=generator)
    before = quantizer.codebook.detach().clone()
    out = quantizer(z)
    out.losses["codebook"].backward()
    expected = torch.zeros_like(before)
    chosen = out.indices[:, 0]
    expected.index_add_(0, chosen, 2 * (before[chosen] - z) / z.numel())
    torch.testing.assert_close(quantizer.codebook.grad, expected)
    assert not torch.equal(quantizer.codebook, before)


def test_evaluation_moves_nothing(generator):
    quantizer = ClusteringVQ(3, 5).eval()
    state = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(torch.randn(8, 3, generator=generator))
    assert all(torch.equal(state[n], tensor) for n, tensor in quantizer.state_dict().items())


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(ConfigError, match="decay"):
        ClusteringVQ(3, 5, decay=decay)
