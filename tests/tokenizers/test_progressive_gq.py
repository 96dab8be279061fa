"""What is special about ProgressiveGQ: ordered groups, exact tiles, the budget of the flagship."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tessella.errors import ConfigError
from tessella.tokenizers.progressive_gq import ProgressiveGQ, ProgressiveGQConfig
from tessella.tokenizers.quantizers.successive import SuccessiveGQ


def test_the_flagship_stays_within_its_budget() -> None:
    with torch.device("meta"):
        model = ProgressiveGQ(ProgressiveGQConfig())
    assert sum(p.numel() for p in model.parameters()) <= 6_000_000


def test_no_convolution_runs_at_full_resolution() -> None:
    model = ProgressiveGQ(ProgressiveGQConfig()).eval()
    largest = 0

    def watch(_: object, inputs: tuple[torch.Tensor, ...], __: object) -> None:
        nonlocal largest
        largest = max(largest, inputs[0].shape[-1])

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(watch)
    model.decode(model.encode(torch.zeros(1, 3, 64, 64)))
    assert largest == 16


def _reference(quantizer: SuccessiveGQ, latent: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """The equations one bit at a time, in float64, without the feedback matrix."""
    p = {name: v.detach().double().numpy() for name, v in quantizer.named_parameters()}
    state = np.zeros_like(latent)
    indices, states = [], []
    for group in range(quantizer.groups):
        steps = np.ones(quantizer.group_bits)
        if group:
            hidden = state @ p["step_hidden"][group] + p["step_bias"][group]
            hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
            steps = np.exp(np.clip(hidden @ p["step_out"][group], -2, 2))
        index = 0
        for bit in range(quantizer.group_bits):
            is_set = (latent - state) @ p["analysis"][group][:, bit] > 0
            state = state + (1 if is_set else -1) * steps[bit] * p["synthesis"][group][bit]
            index += int(is_set) << bit
        indices.append(index)
        states.append(state.copy())
    return indices, states


def test_quantizer_agrees_with_the_equations(generator: torch.Generator) -> None:
    quantizer = SuccessiveGQ(6, groups=3, group_bits=4, hidden=5)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    latents = torch.randn(40, 6, generator=generator)
    out = quantizer(latents)
    agreeing = 0
    for i, latent in enumerate(latents.double().numpy()):
        indices, states = _reference(quantizer, latent)
        if out.indices[i].tolist() != indices:
            continue  # a projection within rounding of zero
        agreeing += 1
        for q in range(3):
            np.testing.assert_allclose(out.states[q, i].detach().numpy(), states[q], atol=1e-4)
    assert agreeing >= 39


def test_inference_gives_the_codes_of_training(generator: torch.Generator) -> None:
    quantizer = SuccessiveGQ(6, groups=3, group_bits=4, hidden=5)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    latents = torch.randn(2, 9, 11, 6, generator=generator)
    trained = quantizer(latents)
    with torch.inference_mode():
        fast = quantizer(latents)
    same = (fast.indices == trained.indices).all(dim=-1)
    assert float(same.float().mean()) > 0.99  # rounding may flip a sign at zero
    torch.testing.assert_close(fast.states[:, same], trained.states[:, same].detach())


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_indices_give_the_state_of_their_prefix(kept: int, generator: torch.Generator) -> None:
    quantizer = SuccessiveGQ(6, groups=3, group_bits=4, hidden=5)
    latents = torch.randn(2, 3, 5, 6, generator=generator)
    out = quantizer(latents)
    state = quantizer.indices_to_state(out.indices[..., :kept])
    torch.testing.assert_close(state, out.states[kept - 1])


def test_initial_bits_shrink_the_residual_like_water_filling(generator: torch.Generator) -> None:
    scale = torch.tensor([8.0, 4.0, 2.0, 1.0])
    quantizer = SuccessiveGQ(4, groups=4, group_bits=4)
    latents = torch.randn(4000, 4, generator=generator)
    quantizer.initialize(latents, scale)
    states = quantizer(latents).states.detach()
    errors = ((latents - states) * scale).square().sum(-1).mean(-1)
    assert bool((errors[1:] < errors[:-1]).all())
    # the first bit of a Gaussian leaves 1 - 2/pi of its variance
    one = SuccessiveGQ(1, groups=1, group_bits=1)
    one.initialize(latents[:, :1], torch.ones(1))
    left = (latents[:, :1] - one(latents[:, :1]).states[0].detach()).square().mean()
    assert float(left) == pytest.approx(1 - 2 / np.pi, abs=0.02)


def test_saturated_bits_pass_no_gradient() -> None:
    quantizer = SuccessiveGQ(1, groups=1, group_bits=1)
    quantizer.initialize(torch.tensor([[1.0], [-1.0]]), torch.ones(1))
    latents = torch.tensor([[0.5], [1.9], [2.5], [-9.0]], requires_grad=True)
    quantizer(latents).states[-1].sum().backward()
    assert latents.grad is not None
    torch.testing.assert_close(latents.grad.flatten(), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_a_tile_with_its_halo_equals_the_whole(generator: torch.Generator) -> None:
    model = ProgressiveGQ(ProgressiveGQConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    halo, core = model.halo, 16
    side = 2 * halo + core
    images = torch.rand(1, 3, side + 64, side + 64, generator=generator) * 2 - 1
    whole = model.encode(images).levels[0]
    tile = model.encode(images[..., 32 : 32 + side, 32 : 32 + side]).levels[0]
    inner = slice(halo // 8, (halo + core) // 8)
    outer = slice((32 + halo) // 8, (32 + halo + core) // 8)
    same = tile[:, inner, inner] == whole[:, outer, outer]
    assert float(same.float().mean()) > 0.999
    # one pixel beyond the halo matters to nothing inside, one inside it may
    nudged = images.clone()
    nudged[..., 31, :] += 0.5
    changed = model.encode(nudged).levels[0] != whole
    assert not bool(changed[:, outer, outer].any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_what_tokens_mean(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    model, half = ProgressiveGQ(ProgressiveGQConfig()), ProgressiveGQ(ProgressiveGQConfig())
    half.load_state_dict(model.state_dict())
    half.to(dtype)
    images = torch.rand(1, 3, 40, 48, generator=generator) * 2 - 1
    tokens = half.encode(images)
    assert half.space_id == model.space_id
    assert half.dtype == dtype
    # what one of them wrote, the other reads
    assert bool(torch.isfinite(model.decode(tokens)).all())
    assert bool(torch.isfinite(half.decode(model.encode(images))).all())


def test_training_draws_groups_from_the_generator_alone() -> None:
    config = ProgressiveGQConfig(keep_weights=(0, 0, 1, 0, 0, 0, 0, 0))
    model = ProgressiveGQ(config).train()
    images = torch.zeros(4, 3, 16, 16)
    out = model(images, generator=torch.Generator().manual_seed(0))
    assert float(out.stats["kept_groups"]) == 3
    with pytest.raises(ConfigError, match="keep_weights"):
        ProgressiveGQConfig(keep_weights=(1.0, 2.0))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="components"):
        ProgressiveGQConfig(components=200, latent_dim=400)
