"""The prior's network of scalar latents: what it may see, and what it says."""

from __future__ import annotations

import pytest
import torch

from tessella.codecs.entropy.latent.clipping import clipped
from tessella.codecs.entropy.latent.network import (
    SCALES,
    LatentPriorConfig,
    LatentPriorNetwork,
    anchors_of,
)
from tessella.errors import ConfigError

CONFIG = LatentPriorConfig(slices=(2, 3), hyper_channels=4, features=8, hidden=8, reach=3, points=3)


@pytest.fixture
def network() -> LatentPriorNetwork:
    torch.manual_seed(0)
    network = LatentPriorNetwork(CONFIG)
    network.set_deviations(torch.tensor([20.0, 5.0, 2.0, 1.0, 0.1]))
    with torch.no_grad():  # so that every input is seen in whole steps of the outputs
        for parameter in network.parameters():
            parameter.mul_(2.0)
    return network.requires_grad_(False)


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hyper = torch.randint(-9, 9, (1, 4, 2, 2), generator=generator).float()
    latents = torch.randint(-40, 40, (1, 5, 8, 8), generator=generator).float()
    return hyper, latents, torch.tensor([0.0, 0.5, 0.5]).view(1, 3, 1, 1)


def test_outputs_are_whole_and_in_range(network: LatentPriorNetwork) -> None:
    mean, scale = network(*_inputs())
    assert mean.shape == scale.shape == (1, 5, 8, 8)
    assert torch.equal(mean * 8, (mean * 8).round())
    assert torch.equal(scale, scale.round())
    assert 0 <= float(scale.min()) <= float(scale.max()) <= SCALES - 1


def test_nothing_is_expected_from_what_is_decoded_later(network: LatentPriorNetwork) -> None:
    hyper, latents, quality = _inputs()
    is_anchor = anchors_of((8, 8), latents.device)
    order = torch.empty(5, 8, 8)  # the pass in which each latent is decoded
    for channel, index in enumerate((0, 0, 1, 1, 1)):
        order[channel] = torch.where(is_anchor, 2 * index, 2 * index + 1)
    before = network(hyper, latents, quality)
    for number in range(4):
        changed = torch.where(order >= number, -latents - 7, latents)
        after = network(hyper, changed, quality)
        known = (order <= number)[None]
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[known], new[known])
            assert not torch.equal(old, new) or number == 3


def test_every_context_is_used(network: LatentPriorNetwork) -> None:
    hyper, latents, quality = _inputs()
    expected = network(hyper, latents, quality)
    other = [
        network(-hyper, latents, quality),
        network(hyper, torch.cat([-latents[:, :2], latents[:, 2:]], dim=1), quality),
        network(hyper, torch.where(anchors_of((8, 8), latents.device), -latents, latents), quality),
    ]
    for changed in other:
        assert not torch.equal(changed.mean[:, 2:], expected.mean[:, 2:])


def test_inputs_are_clipped_and_about_as_large(network: LatentPriorNetwork) -> None:
    latents = torch.tensor([20.0, 5.0, 2.0, 1.0, 0.1]).view(1, 5, 1, 1)
    seen = network.inputs(latents).flatten()
    assert float(seen[:4].max() / seen[:4].min()) <= 2
    assert torch.equal(network.inputs(latents * 1e6), network.inputs(latents.sign() * 255))


def test_the_first_scales_are_those_of_the_channels() -> None:
    torch.manual_seed(0)
    network = LatentPriorNetwork(CONFIG)
    deviations = torch.tensor([20.0, 5.0, 2.0, 1.0, 0.05])
    network.set_deviations(deviations)
    with torch.no_grad():
        for slice_network in network.slices:
            slice_network.last.weight.zero_()
    place = network(*_inputs()).scale[0, :, 0, 0]
    scales = 0.11 * (256 / 0.11) ** (place / 63)
    assert torch.allclose(scales, deviations.clamp(min=0.11), rtol=0.07)


def test_clipping_lets_gradients_lead_back() -> None:
    x = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    clipped(x, 0.0, 1.0).sum().backward()  # a step against the gradient lowers all
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0]
    x.grad = None
    (-clipped(x, 0.0, 1.0)).sum().backward()
    assert x.grad.tolist() == [-1.0, -1.0, 0.0]


def test_an_even_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="odd reach"):
        LatentPriorConfig(reach=4)
