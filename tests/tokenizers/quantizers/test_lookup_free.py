"""Binary quantizers: bits, losses against plain formulas, and memory without any table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from memory_probe import LargestTensor

from tessella.errors import ConfigError, ShapeError
from tessella.tokenizers.quantizers import BSQ, GQ, LFQ, EntropyConfig


@pytest.mark.parametrize(
    ("quantizer", "tokens"),
    [
        (GQ(1, 36), 700),
        (GQ(8, 8), 700),
        (LFQ(36), 700),
        (LFQ(20, spherical=True), 700),
        (BSQ(1, 36), 700),
        (GQ(1, 62, entropy=EntropyConfig(marginal="bitwise")), 700),
    ],
    ids=["gq-1x36", "gq-8x8", "lfq-36", "spherical-20", "bsq-36", "gq-1x62-bitwise"],
)
def test_memory_grows_with_tokens_and_dim_alone(quantizer, tokens):
    z = torch.randn(tokens, quantizer.dim, requires_grad=True)
    with LargestTensor() as probe:
        out = quantizer(z)
        (out.loss + out.z_q.sum()).backward()
        codes = quantizer.indices_to_codes(out.indices)
        quantizer.codes_to_indices(codes)
        quantizer.eval()(z)
    quantizer.train()
    histogram = 8 * 2**12  # sub-groups have at most 2^12 bins
    assert probe.bytes <= max(8 * 4 * tokens * quantizer.dim, 4 * histogram)
    assert torch.isfinite(z.grad).all()
    assert torch.equal(codes, out.z_q)


def test_an_exact_histogram_of_36_bits_is_refused_at_construction():
    with pytest.raises(ConfigError, match="2\\^36"):
        GQ(1, 36, entropy=EntropyConfig(marginal="exact"))


def test_first_channel_is_the_least_or_the_most_significant_bit():
    z = torch.tensor([[1.0, -1, -1, 1, 1, -1]])
    assert GQ(2, 3).eval()(z).indices.tolist() == [[1, 3]]
    assert LFQ(3, 2).eval()(z).indices.tolist() == [[4, 6]]
    assert LFQ(3, 2, bit_order="lsb").eval()(z).indices.tolist() == [[1, 3]]
    assert BSQ(2, 3).eval()(z).indices.tolist() == [[4, 6]]


def test_flat_indices_follow_the_bit_order():
    z = torch.tensor([[1.0, -1, -1, 1, 1, -1]])
    for quantizer, expected in ((GQ(2, 3), 0b011001), (BSQ(2, 3), 0b100110)):
        indices = quantizer.eval()(z).indices
        assert quantizer.flatten_indices(indices).tolist() == [expected]
        assert torch.equal(quantizer.unflatten_indices(quantizer.flatten_indices(indices)), indices)


def test_joint_indices_beyond_62_bits_are_refused():
    quantizer = GQ(8, 8)
    with pytest.raises(ShapeError, match=r"64\.0 bits"):
        quantizer.flatten_indices(torch.zeros(2, 8, dtype=torch.int64))


def test_zero_maps_to_minus_one():
    for quantizer in (GQ(1, 4), LFQ(4), BSQ(1, 4)):
        assert quantizer.eval()(torch.zeros(1, 4)).indices.item() == 0


def test_unsigned_bytes_are_valid_indices():
    quantizer = GQ(4, 8)
    indices = torch.randint(256, (3, 5, 4))
    codes = quantizer.indices_to_codes(indices.to(torch.uint8))
    assert torch.equal(quantizer.codes_to_indices(codes), indices)


def test_paper_and_released_entropies_differ_as_stated(generator):
    z = torch.randn(200, 12, generator=generator) * 0.02
    released = GQ(3, 4)(z).stats
    paper = GQ(3, 4, entropy=EntropyConfig(reduction="per_group_sum"))(z).stats
    torch.testing.assert_close(paper["token_entropy"], 3 * released["token_entropy"])
    # pooling mixes the groups: concavity makes its entropy at least the mean of theirs
    assert paper["codebook_entropy"] / 3 <= released["codebook_entropy"] + 1e-6


def test_losses_are_weighted_and_sum_to_the_loss(generator):
    z = torch.randn(50, 8, generator=generator)
    out = GQ(2, 4, entropy=EntropyConfig(weight=0.3), commitment_weight=0.5)(z)
    commitment = np.square(np.abs(z.numpy()) - 1).mean()
    assert out.losses["commitment"].item() == pytest.approx(0.5 * commitment, rel=1e-5)
    entropy = out.stats["token_entropy"] - out.stats["codebook_entropy"]
    torch.testing.assert_close(out.losses["entropy"], 0.3 * entropy)
    torch.testing.assert_close(out.loss, sum(out.losses.values()))


def test_spherical_codes_have_the_length_of_the_sphere(generator):
    z = torch.randn(10, 12, generator=generator)
    bsq = BSQ(3, 4).eval()(z)
    torch.testing.assert_close(bsq.z_q.norm(dim=-1), torch.ones(10))
    error = (bsq.z_q - torch.nn.functional.normalize(z, dim=-1)).norm(dim=-1)
    assert error.max() < math.sqrt(2 - 2 / math.sqrt(12))  # the paper's bound
    lfq = LFQ(4, 3, spherical=True, scale=2.0).eval()(z).z_q.view(10, 3, 4)
    torch.testing.assert_close(lfq.norm(dim=-1), torch.full((10, 3), 2.0))


def test_factorized_views_are_refused_when_bits_do_not_add_up():
    with pytest.raises(ShapeError, match="sum to 12"):
        GQ(3, 4).factorize(torch.zeros(1, 3, dtype=torch.int64), [4, 4])
    with pytest.raises(ShapeError, match="1 parts given; expected 2"):
        GQ(3, 4).unfactorize([torch.zeros(1, dtype=torch.int64)], [6, 6])


@pytest.mark.parametrize("wrong", [(0, 8), (4, 0), (1, 63)])
def test_impossible_groups_are_refused(wrong):
    with pytest.raises(ConfigError, match="1 to 62 bits"):
        GQ(*wrong)
