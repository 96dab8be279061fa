"""Factorised and streamed entropies against plain NumPy over all codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax, xlogy

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers import EntropyConfig, entropy, soft_assignment
from tessella.tokenizers.quantizers.entropy import (
    binary_entropy,
    bit_marginals,
    factorized_entropies,
    histogram_parts,
)
from tessella.tokenizers.quantizers.soft_assignment import assignment_entropies, soft_codes


def signs_of(bits: int) -> np.ndarray:
    """All codes, first bit least significant."""
    return 2.0 * ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1) - 1


def dense_probabilities(logits: torch.Tensor) -> np.ndarray:
    """Softmax over all codes of (N, G, d) bit logits: half the logit for +1, minus half for -1."""
    return softmax(logits.detach().double().numpy() @ signs_of(logits.shape[-1]).T / 2, axis=-1)


def dense_entropies(p: np.ndarray, config: EntropyConfig) -> tuple[float, float]:
    def entropy_of(m: np.ndarray) -> np.ndarray:
        logs = (
            np.log(m + config.log_eps)
            if config.log_form == "add"
            else np.log(np.maximum(m, config.log_eps))
        )
        return -(m * logs).sum(axis=-1)

    token = -xlogy(p, p).sum(axis=-1).mean(axis=0)
    marginals = p.mean(axis=0)
    if config.reduction == "pooled_mean":
        return token.mean(), entropy_of(marginals.mean(axis=0))
    if config.reduction == "per_group_sum":
        return token.sum(), entropy_of(marginals).sum()
    return token.mean(), entropy_of(marginals).mean()


@pytest.mark.parametrize("reduction", ["pooled_mean", "per_group_mean", "per_group_sum"])
@pytest.mark.parametrize("log_form", ["add", "clamp"])
@pytest.mark.parametrize("bits", [1, 4, 7])
def test_entropies_equal_those_over_all_codes(reduction, log_form, bits, generator):
    config = EntropyConfig(reduction=reduction, log_form=log_form, log_eps=1e-4)
    logits = torch.randn(40, 3, bits, generator=generator) * 3
    found = factorized_entropies(logits, config)
    token, codebook = dense_entropies(dense_probabilities(logits), config)
    assert found.token.item() == pytest.approx(token, rel=1e-5)
    assert found.codebook.item() == pytest.approx(codebook, rel=1e-5)


def test_histograms_of_parts_are_marginals_of_the_joint_one(generator):
    logits = torch.randn(30, 2, 14, generator=generator)
    (joint,) = bit_marginals(logits, marginal="exact")
    parts = list(bit_marginals(logits, marginal="subgroup"))
    assert [tuple(t.shape) for t in parts] == [(2, 2, 2**7)]
    table = joint.view(2, 2**7, 2**7)  # (group, high bits, low bits)
    torch.testing.assert_close(parts[0][:, 0], table.sum(dim=1))
    torch.testing.assert_close(parts[0][:, 1], table.sum(dim=2))
    (bits,) = bit_marginals(logits, marginal="bitwise")
    torch.testing.assert_close(bits[..., 1], torch.sigmoid(logits).mean(dim=0))


@pytest.mark.parametrize("bits", range(1, 63))
def test_parts_cover_all_bits_and_stay_small(bits):
    for marginal in ("auto", "subgroup", "bitwise"):
        parts = histogram_parts(bits, marginal)
        assert sum(size * count for size, count in parts) == bits
        most = {"auto": 16, "subgroup": 12, "bitwise": 1}[marginal]
        assert max(size for size, _ in parts) <= most


def test_a_histogram_that_cannot_exist_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"36 bits.*'subgroup' or 'bitwise'"):
        histogram_parts(36, "exact")


@pytest.mark.parametrize("clamped", [False, True])
def test_streaming_changes_neither_values_nor_gradients(monkeypatch, clamped, generator):
    config = EntropyConfig(clamp_token_log=clamped, reduction="per_group_sum")
    logits = (torch.randn(50, 3, 6, generator=generator) * 4).requires_grad_()
    results = []
    for budget in (10**9, 40):
        monkeypatch.setattr(entropy, "_CHUNK_FLOATS", budget)
        out = factorized_entropies(logits, config)
        grad = torch.autograd.grad(2 * out.token - out.codebook, logits)[0]
        results.append((out.token.detach(), out.codebook.detach(), grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("clamped", [False, True])
def test_gradients_equal_those_through_the_dense_softmax(clamped, generator):
    eps = 1e-3 if clamped else 1e-30
    config = EntropyConfig(
        clamp_token_log=clamped, reduction="per_group_sum", log_form="clamp", log_eps=eps
    )
    logits = (torch.randn(20, 2, 5, generator=generator) * 2).requires_grad_()
    out = factorized_entropies(logits, config)
    found = torch.autograd.grad(out.token - 0.7 * out.codebook, logits)[0]
    codes = torch.from_numpy(signs_of(5)).float()
    p = torch.softmax(logits @ codes.T / 2, dim=-1)
    m = p.mean(dim=0)
    token = -(p * p.clamp_min(eps).log()).sum(-1).sum(-1).mean()
    joint = token + 0.7 * (m * m.clamp_min(eps).log()).sum()
    torch.testing.assert_close(found, torch.autograd.grad(joint, logits)[0], atol=1e-6, rtol=1e-4)


def test_saturated_bits_have_finite_entropies_and_gradients():
    logits = torch.tensor([0.0, 1e-6, -50.0, 200.0, -4000.0, 3e38], requires_grad=True)
    values = binary_entropy(logits)
    values.sum().backward()
    assert values[0].item() == pytest.approx(np.log(2))
    assert torch.isfinite(values).all() and torch.isfinite(logits.grad).all()
    assert values[2:].abs().max() < 1e-19


def test_clamped_token_entropy_is_refused_for_large_groups():
    with pytest.raises(ConfigError, match="13 bits"):
        factorized_entropies(torch.zeros(2, 1, 13), EntropyConfig(clamp_token_log=True))


@pytest.mark.parametrize(
    "wrong", [{"reduction": "mean"}, {"marginal": "full"}, {"log_form": "x"}, {"temperature": 0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EntropyConfig(**wrong)


@pytest.mark.parametrize("euclidean", [False, True])
def test_streamed_assignments_equal_a_dense_softmax(monkeypatch, euclidean, generator):
    z = torch.randn(30, 4, generator=generator).requires_grad_()
    table = torch.randn(11, 4, generator=generator).requires_grad_()
    config = EntropyConfig(temperature=2.0)
    affinity = -torch.cdist(z, table).square() if euclidean else z @ table.T
    p = torch.softmax(affinity / config.temperature, dim=-1)
    m = p.mean(dim=0)
    expected = -torch.special.xlogy(p, p).sum(-1).mean() + (m * (m + 1e-5).log()).sum()
    monkeypatch.setattr(soft_assignment, "_BLOCK_FLOATS", 33)
    out = assignment_entropies(z, table, config, euclidean=euclidean)
    found = out.token - out.codebook
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found, (z, table)),
        torch.autograd.grad(expected, (z, table)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_soft_codes_are_the_mean_code_and_hold_the_read_table_constant(monkeypatch, generator):
    z = torch.randn(9, 4, generator=generator)
    table = torch.randn(6, 4, generator=generator).requires_grad_()
    monkeypatch.setattr(soft_assignment, "_BLOCK_FLOATS", 13)
    found = soft_codes(z, table)
    expected = softmax(z.numpy() @ table.detach().numpy().T, axis=1) @ table.detach().numpy()
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)
    frozen = table.detach()
    direct = torch.softmax(z @ table.T, dim=-1) @ frozen
    w = torch.randn(9, 4, generator=generator)
    torch.testing.assert_close(
        torch.autograd.grad((w * found).sum(), table),
        torch.autograd.grad((w * direct).sum(), table),
    )
